"""A server that takes a connection and never answers is given what is left of the time, not ten seconds."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.converge import users
from shardmart.cluster.errors import DeadlineError
from shardmart.cluster.protocol.connection import Credentials


def test_every_connection_is_given_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "admin.password").write_text("secret")
    given: list[float] = []
    real = users.connect

    def noted(address: str, credentials: Credentials, *, timeout_seconds: float = 10) -> Any:
        given.append(timeout_seconds)
        return real(address, credentials, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(users, "connect", noted)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        spec = users.UserSpec("admin", tmp_path / "admin.password", roles=())
        with pytest.raises(DeadlineError, match=f"waited 1 s for {address}"):
            users.converge([spec], address, users.Administrators(), wait_seconds=1)
    assert given
    assert max(given) <= 1.2
