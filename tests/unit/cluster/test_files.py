"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardmart.cluster.host.files import write_whole


def test_file_has_content_and_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    (tmp_path / ".secret.partial").write_text("what a killed run left")
    previous = os.umask(0)
    try:
        write_whole(file, "one\n")
        write_whole(file, b"two\n")
    finally:
        os.umask(previous)
    assert file.read_text() == "two\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_there_stays_when_the_new_content_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "description"
    write_whole(file, "before", mode=0o644)

    def full(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(file, "after")
    assert file.read_text() == "before"
    assert file.stat().st_mode & 0o777 == 0o644
