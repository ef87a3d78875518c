"""netem is taken only for what it does in order.  `tc` is a mock that writes down its arguments: the kernel of the
laboratory has no netem."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.packets import netem

SHOWN = "qdisc netem 8001: root refcnt 2 limit 100000 delay 100ms\\n Sent 4200 bytes 42 pkt (dropped 0)"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `tc` that obeys; the file it writes its arguments to."""
    written = tmp_path / "arguments"
    script = f"#!/bin/sh\necho \"$@\" >> {written}\nprintf '{SHOWN}'\nexit ${{TC_EXIT:-0}}\n"
    (tmp_path / "tc").write_text(script)
    (tmp_path / "tc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return written


FIXED: dict[str, Any] = {"delay_ms": 100, "jitter_ms": 0, "loss": 0, "direction": "egress", "everybody": True}


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"jitter_ms": 5}, False),
        ({"loss": 0.1}, False),
        ({"direction": "both"}, False),
        ({"everybody": False}, False),
        ({"delay_ms": 0}, False),
    ],
)
def test_taken_for_a_fixed_delay_of_everything_sent(change: dict[str, Any], taken: bool) -> None:
    assert netem.fits(**(FIXED | change)) is taken


def test_install_and_remove_say_what_tc_wants(told: Path) -> None:
    netem.install("eth0", 100)
    assert netem.remove("eth0") == 42
    assert told.read_text().splitlines() == [
        "qdisc add dev eth0 root netem delay 100ms limit 100000",
        "-s qdisc show dev eth0 root",
        "qdisc del dev eth0 root",
    ]


def test_kernel_without_netem_is_an_error_with_its_words(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TC_EXIT", "2")
    with pytest.raises(netem.NetemError):
        netem.install("eth0", 100)
