"""Whether a server answers without TLS: what verification and the TLS tests rely on must be able to say yes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import bson
import pytest

from shardmart.cluster.protocol.connection import answers_without_tls

ANSWER = b"\0" * 5 + bson.encode({"isWritablePrimary": True, "ok": 1.0})
PLAIN = struct.pack("<iiii", 16 + len(ANSWER), 7, 1, 2013) + ANSWER
ALERT = bytes([0x15, 3, 3, 0, 2, 2, 40])
"""TLS record: fatal alert, handshake_failure (RFC 8446, section 6): how some servers refuse plaintext."""


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A server that reads a message, says `answer` and hangs up; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*listener.getsockname())
        thread.join(10)


@pytest.mark.parametrize(("answer", "answers"), [(PLAIN, True), (b"", False), (ALERT, False)])
def test_plain_answer_is_told_from_a_refusal(answer: bytes, answers: bool) -> None:
    with server(answer) as address:
        assert answers_without_tls(address) is answers


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert not answers_without_tls("{}:{}".format(*held.getsockname()))
