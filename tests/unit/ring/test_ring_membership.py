"""The document of a ring's membership, as the store keeps it."""

from __future__ import annotations

from shardmart.ring.membership import COPY, View


def test_a_move_that_an_earlier_version_began_is_read() -> None:
    move = {"phase": COPY, "before": {"a": 1}, "after": {"a": 1, "b": 1}, "epoch": 2, "dead": None, "done": 17}
    members = {name: {"identity": name, "process": None} for name in ("a", "b")}
    document = {"placement": 1, "epoch": 2, "copies": 1, "virtual_nodes": 8, "weights": {"a": 1}}
    view = View.of(document | {"members": members, "move": move})
    assert view.nodes == ("a", "b")
    assert view.move
    assert view.move.after == {"a": 1, "b": 1}
