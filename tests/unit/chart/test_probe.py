"""The chart's probe.sh reads a server's answer to `hello` with bash alone.

The answers are BSON as MongoDB 6.0.5 gives it, sent by a socket of this test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest

PROBE = Path(__file__).parents[3] / "helm" / "sharded-mongodb" / "files" / "probe.sh"
NOW = datetime(2026, 11, 21, 7, 43, 54, 301000, tzinfo=UTC)


@contextmanager
def server(answer: dict[str, Any] | None) -> Iterator[int]:
    """A server that gives one answer to whatever it is asked (or none at all); its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                if answer is None:
                    connection.recv(1)
                    return
                document = bson.encode(answer)
                connection.sendall(struct.pack("<iiiiIB", 21 + len(document), 1, 1, 2013, 0, 0) + document)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def hello(*, primary: bool = False, secondary: bool = False, lag_ms: int = 0, **more: Any) -> dict[str, Any]:
    """What a member of a set answers; the majority lags by so many milliseconds."""
    optime = {"ts": bson.Timestamp(1, 1), "t": 1}
    return {
        "topologyVersion": {"processId": bson.ObjectId(), "counter": 6},
        "hosts": ["a:27017", "b:27017"],
        "isWritablePrimary": primary,
        "secondary": secondary,
        "lastWrite": {
            "opTime": optime,
            "lastWriteDate": NOW,
            "majorityOpTime": optime,
            "majorityWriteDate": NOW - timedelta(milliseconds=lag_ms),
        },
        **more,
        "ok": 1.0,
    }


def probe(answer: dict[str, Any] | None, *question: str) -> int:
    """Exit code of probe.sh."""
    with server(answer) as port:
        # Who answers is waited for on a busy machine, too.
        environment = os.environ | {"PORT": str(port), "PROBE_SECONDS": "1" if answer is None else "30"}
        return subprocess.run([str(PROBE), *question], env=environment, check=False, timeout=60).returncode


@pytest.mark.parametrize(
    ("question", "answer", "code"),
    [
        ("primary", hello(primary=True), 0),
        ("primary", hello(secondary=True), 1),
        ("member", hello(secondary=True), 0),
        ("member", hello(), 1),
        ("alive", hello(), 0),
        ("alive", None, 1),
        ("router", {"isWritablePrimary": True, "msg": "isdbgrid", "ok": 1.0}, 0),
        ("router", hello(primary=True), 1),
    ],
)
def test_answer_is_read(question: str, answer: dict[str, Any] | None, code: int) -> None:
    assert probe(answer, question) == code


@pytest.mark.parametrize(("lag_ms", "code"), [(0, 0), (1000, 0), (1001, 1), (3_600_000, 1)])
def test_primary_is_replicated_when_the_majority_lacks_at_most_a_second(lag_ms: int, code: int) -> None:
    assert probe(hello(primary=True, lag_ms=lag_ms), "replicated") == code


def test_server_without_a_set_is_not_replicated() -> None:
    assert probe({"isWritablePrimary": False, "ok": 1.0}, "replicated") == 1


@pytest.mark.parametrize("question", ["alive", "replicated"])
def test_answer_that_never_ends_is_no_after_the_time(question: str) -> None:
    """Also when there is always something to read: `read -t 0` would succeed for ever without reading it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"\x7f\x7f\x7f\x7f\0" * 1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        environment = os.environ | {"PORT": str(listener.getsockname()[1]), "PROBE_SECONDS": "1"}
        assert subprocess.run([str(PROBE), question], env=environment, check=False, timeout=60).returncode == 1
        thread.join(10)
