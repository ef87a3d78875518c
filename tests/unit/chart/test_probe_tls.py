"""The charts' probe.sh ask a server that speaks only TLS, and leave no process behind."""

from __future__ import annotations

import ctypes
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest

from shardmart.cluster.host import certificates

HELM = Path(__file__).parents[3] / "helm"
PROBE = HELM / "sharded-mongodb" / "files" / "probe.sh"
RING_PROBE = (str(HELM / "ring" / "files" / "probe.sh"),)
PR_SET_CHILD_SUBREAPER = 36
PRIMARY = {"isWritablePrimary": True, "secondary": False, "ok": 1.0}
SECONDARY = {"isWritablePrimary": False, "secondary": True, "ok": 1.0}
RECOVERING = {"isWritablePrimary": False, "secondary": False, "ok": 1.0}


@contextmanager
def server(folder: Path, answer: dict[str, Any], days: int = 1) -> Iterator[int]:
    """A TLS server, its certificate good for so many days, with one answer to whatever it is asked; its port."""
    made = certificates.make_server_certificate(certificates.make_authority("test"), ["localhost"], days)
    (folder / "server.pem").write_bytes(made.combined)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(4096)
                document = bson.encode(answer)
                connection.sendall(struct.pack("<iiiiIB", 21 + len(document), 1, 1, 2013, 0, 0) + document)
                connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def ask(question: str, port: int) -> int:
    return run(str(PROBE), question, port=port)


def run(*command: str, port: int) -> int:
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), "TLS": "1", "PROBE_SECONDS": "20"}
    return subprocess.run(command, env=environment, check=False, timeout=30).returncode


@pytest.mark.parametrize(
    ("question", "answer", "code"),
    [
        ("alive", RECOVERING, 0),
        ("member", PRIMARY, 0),
        ("member", SECONDARY, 0),
        ("member", RECOVERING, 1),
        ("primary", SECONDARY, 1),
        ("router", {"isWritablePrimary": True, "msg": "isdbgrid", "ok": 1.0}, 0),
    ],
)
def test_answers_are_understood_over_tls(tmp_path: Path, question: str, answer: dict[str, Any], code: int) -> None:
    with server(tmp_path, answer) as port:
        assert ask(question, port) == code


def test_majority_is_judged_over_tls(tmp_path: Path) -> None:
    now = bson.datetime_ms.DatetimeMS(1_795_245_292_000)
    caught_up = PRIMARY | {"lastWrite": {"lastWriteDate": now, "majorityWriteDate": now}}
    with server(tmp_path, caught_up) as port:
        assert ask("replicated", port) == 0


def test_ended_certificate_kills_no_database(tmp_path: Path) -> None:
    with server(tmp_path, PRIMARY, days=0) as port:
        assert ask("alive", port) == 0


def test_nobody_there_is_a_no() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert ask("alive", held.getsockname()[1]) == 1


def test_the_rings_probe_hears_a_server_with_an_ended_certificate_too(tmp_path: Path) -> None:
    with server(tmp_path, PRIMARY, days=0) as port:
        assert run(*RING_PROBE, port=port) == 0


def test_to_the_rings_probe_one_that_listens_and_says_nothing_is_a_no() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert run(*RING_PROBE, port=listener.getsockname()[1]) != 0


@pytest.mark.parametrize("probe", [(str(PROBE), "alive"), RING_PROBE])
def test_no_process_is_left_behind(tmp_path: Path, probe: tuple[str, ...]) -> None:
    """In a pod an orphan's parent is mongod, which reaps nobody: one zombie per probe would fill the process table."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        with server(tmp_path, PRIMARY) as port:
            assert run(*probe, port=port) == 0
        with pytest.raises(ChildProcessError):  # not one child, alive or dead
            os.waitpid(-1, os.WNOHANG)
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
