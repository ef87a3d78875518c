"""The order in which the servers of a ring on this machine are restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.declare.rings import Ring, RingNode
from shardmart.platforms import embedded_ring
from shardmart.ring.node import nodes


def test_clients_have_time_to_notice_that_a_node_serves_before_the_next_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def note(what: Callable[..., str]) -> Callable[..., None]:
        return lambda *arguments, **_: done.append(what(*arguments))

    async def whole(*_: object) -> None:
        done.append("whole")

    ring = embedded_ring.EmbeddedRing(Ring(name="carts", nodes=[RingNode()] * 3, port=27300).as_variable(), tmp_path)
    document = ring._document("password")
    monkeypatch.setattr(embedded_ring.EmbeddedRing, "_known", lambda _: document)
    monkeypatch.setattr(embedded_ring, "start_all", note(lambda *_: "start"))
    monkeypatch.setattr(embedded_ring, "stop", note(lambda which: f"stop {which[0].name}"))
    monkeypatch.setattr(embedded_ring, "wait_until_whole", whole)
    monkeypatch.setattr(embedded_ring.time, "sleep", note(lambda seconds: f"wait {seconds:g}"))
    outdated: Any = [SimpleNamespace(name=name) for name in ("carts-1", "carts-2")]
    ring._restart(outdated, "mongod", document, 60.0)
    waited = ["whole", f"wait {nodes.NOTICED_SECONDS:g}"]
    assert done == ["start", *waited, "stop carts-1", "start", *waited, "stop carts-2", "start"]
    assert nodes.NOTICED_SECONDS > 2 * 2 * nodes.WATCH_SECONDS  # every second turn reads the membership
