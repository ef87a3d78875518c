"""Worker processes start where a fork server's socket has no place."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from shardmart.loader.pool import SOCKET_NAME, SOCKET_PATH, start_method


def test_workers_start_from_a_fork_server_where_its_socket_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "x" * (SOCKET_PATH - SOCKET_NAME))
    assert start_method() == "forkserver"
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "x" * (SOCKET_PATH - SOCKET_NAME + 1))
    assert start_method() == "spawn"


def test_workers_start_without_any_folder_to_write_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a read-only root."""

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert start_method() == "spawn"


def test_workers_work_with_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with ProcessPoolExecutor(1, multiprocessing.get_context(start_method())) as pool:
        assert pool.submit(len, "abc").result(timeout=60) == 3
