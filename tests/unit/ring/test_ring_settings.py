"""Files of a ring's settings: the password in a file beside it, and what is wrong told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardmart.ring import Settings, SettingsError
from shardmart.ring import settings as settings_file

DOCUMENT = {
    "name": "carts",
    "nodes": {
        "carts-1": "mongodb://ring:{password}@one:27017/?authSource=admin",
        "carts-2": "mongodb://ring:{password}@two",
    },
    "store": "mongodb://ring:{password}@store",
    "password_file": "ring.password",
}


def written(folder: Path, **changes: object) -> Path:
    file = folder / "settings.json"
    file.write_text(json.dumps(DOCUMENT | changes))
    return file


def test_the_password_of_the_file_beside_it_is_put_in_escaped(tmp_path: Path) -> None:
    (tmp_path / "ring.password").write_text("a/b@c:d\n")
    (tmp_path / "ring.password").chmod(0o440)
    read = settings_file.read(written(tmp_path))
    assert read.nodes == {
        "carts-1": "mongodb://ring:a%2Fb%40c%3Ad@one:27017/?authSource=admin",
        "carts-2": "mongodb://ring:a%2Fb%40c%3Ad@two",
    }
    assert read.store == "mongodb://ring:a%2Fb%40c%3Ad@store"
    assert "a%2Fb" not in repr(read)


def test_a_password_that_everybody_may_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    with pytest.raises(SettingsError, match=r"settings.json: password_file: cannot be read"):
        settings_file.read(file)
    (tmp_path / "ring.password").write_text("secret")
    (tmp_path / "ring.password").chmod(0o644)
    with pytest.raises(SettingsError, match="everybody may read it"):
        settings_file.read(file)


def test_a_file_without_one_has_its_passwords_in_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"name": "carts", "nodes": {"n1": "mongodb://a:b@one"}, "store": "mongodb://a:b@store"}))
    assert settings_file.read(file).nodes == {"n1": "mongodb://a:b@one"}


@pytest.mark.parametrize("name", ["db1.example.com", "$n", "", "n 1", "n" * 41])
def test_a_node_s_name_that_would_be_a_path_in_the_membership_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is not the name of a node"):
        Settings("carts", {name: "mongodb://one"}, "mongodb://store")


@pytest.mark.parametrize("required", [0, 3])
def test_acknowledgements_by_more_nodes_than_there_are_or_by_none_are_refused(required: int) -> None:
    with pytest.raises(SettingsError, match="required_copies"):
        Settings("carts", {"n1": "mongodb://one", "n2": "mongodb://two"}, "mongodb://store", required_copies=required)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"name": "carts", "nodez": {}, "store": "x"},
            "nodes is missing, nodez is unknown; expected name, nodes (name to",
        ),
        ([], "name is missing, nodes is missing, store is missing; expected"),
        ({"name": "carts", "nodes": ["x"], "store": "x"}, "a value is of another type; expected"),
        (
            {"name": "carts", "nodes": {"a": "x", "b": "x"}, "store": "x"},
            "nodes: a and b are one server, each needs a con",
        ),
        (
            {"name": "carts", "nodes": {"a": "x"}, "store": "x", "timeout_seconds": 0},
            "timeout_seconds: expected seconds, more than 0, found 0",
        ),
    ],
)
def test_wrong_file_is_refused_by_the_key_what_it_has_and_what_is_expected(
    document: object, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(document))
    with pytest.raises(SettingsError) as refused:
        settings_file.read(file)
    assert str(refused.value).startswith(f"{file}: {said}")


def test_ring_that_is_not_named_is_the_only_one_or_the_choice_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^there is no ring in .*: `make ring` starts those of the topology, or name"
    ):
        settings_file.find(tmp_path)
    for name in ("carts", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").touch()
    with pytest.raises(
        SettingsError, match=r"^there are several rings in .*: name one of carts, others \(--ring NAME\)$"
    ):
        settings_file.find(tmp_path)
    assert settings_file.find(tmp_path, "others") == tmp_path / "others" / "settings.json"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "2", None])
def test_a_timeout_is_a_number_of_seconds(seconds: object) -> None:
    with pytest.raises(SettingsError, match="timeout_seconds: expected seconds, more than 0, found"):
        Settings("carts", {"n1": "mongodb://one"}, "mongodb://store", seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "value"), [("store", None), ("store", ""), ("nodes", {"n1": None})])
def test_a_connection_string_is_text(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "settings.json"
    file.write_text(
        json.dumps({"name": "carts", "nodes": {"n1": "mongodb://one"}, "store": "mongodb://s"} | {key: value})
    )
    with pytest.raises(SettingsError, match=f"{key}.*: a connection string is expected"):
        settings_file.read(file)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"is not text \(UTF-8\)"):
        settings_file.read(file)
