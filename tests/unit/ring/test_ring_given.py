"""Servers given to a demonstration by connection strings: what cannot be used is said in a line, without passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmart.errors import BadUseError, UnreachableError
from shardmart.ring_command import given
from tests.support.clusters import free_ports


def test_a_file_has_a_connection_string_a_line(tmp_path: Path) -> None:
    file = tmp_path / "nodes"
    file.write_text("mongodb://a\n\n  mongodb://b\n")
    assert given.strings(None, file) == ["mongodb://a", "mongodb://b"]
    assert given.strings(["mongodb://c"], None) == ["mongodb://c"]
    with pytest.raises(BadUseError, match="not by both"):
        given.strings(["mongodb://c"], file)
    with pytest.raises(BadUseError, match="cannot be read: No such file"):
        given.strings(None, tmp_path / "none")
    file.write_text("\n")
    assert given.strings(None, file) == [], "none of them is not the same as nothing said"
    assert given.strings(None, None) is None
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadUseError, match=r"is not text \(UTF-8\)"):
        given.strings(None, file)


def test_the_store_s_string_is_given_once_and_a_file_of_it_has_one_line(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("mongodb://a\n")
    assert given.one(None, file) == "mongodb://a"
    assert given.one("mongodb://b", None) == "mongodb://b"
    assert given.one(None, None) is None
    with pytest.raises(BadUseError, match="not by both"):
        given.one("mongodb://b", file)
    file.write_text("mongodb://a\nmongodb://b\n")
    with pytest.raises(BadUseError, match="has 2 connection strings, one is needed"):
        given.one(None, file)


def test_as_many_as_the_demonstration_needs_or_none() -> None:
    with pytest.raises(BadUseError, match="needs 3 --uri, 1 given"):
        given.named(["mongodb://a"], 3, None)
    assert given.named(["mongodb://a", "mongodb://b", "mongodb://c"], 3, None).store == "mongodb://a"


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("mongodb://me:hunter2@127.0.0.1:1:2/", BadUseError, "n1: not a usable connection string"),
        ("mongodb://me:hunter2@127.0.0.1:{port}/", UnreachableError, "n1: ServerSelectionTimeoutError"),
    ],
)
def test_a_server_that_is_not_there_is_named_and_its_password_is_not_said(
    monkeypatch: pytest.MonkeyPatch, uri: str, error: type[Exception], says: str
) -> None:
    monkeypatch.setattr(given, "TIMEOUT_SECONDS", 0.2)
    settings = given.named([uri.format(port=free_ports(1)[0])], 1, None)
    with pytest.raises(error, match=says) as told, given.cleared(settings):
        raise AssertionError("it began")
    assert "hunter2" not in str(told.value)
