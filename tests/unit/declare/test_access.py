"""Claims of access.yml: users and components have what they need and no more, and nothing else lists the users."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from shardmart.declare import access, data_model, render

ROOT = Path(__file__).parents[3]
DATABASE = data_model.load().database
KNOWN = access.load(DATABASE)


def user(name: str) -> access.User:
    return next(user for user in KNOWN.users if user.name == name)


def test_only_the_loader_and_the_administrator_may_read_customers() -> None:
    assert [u.name for u in KNOWN.users if u.may_read(DATABASE)] == ["admin", "loader"]
    assert [u.name for u in KNOWN.strangers(DATABASE)] == ["ledger", "monitor"]


@pytest.mark.parametrize(
    ("roles", "privileges", "reads"),
    [
        ([("read", "shop")], [], True),
        ([("read", "other")], [], False),
        ([("readAnyDatabase", "admin")], [], True),
        ([("clusterMonitor", "admin")], [], False),
        ([], [({"db": "shop", "collection": "users"}, ["find"])], True),
        ([], [({"db": "", "collection": ""}, ["find"])], True),
        ([], [({"db": "", "collection": ""}, ["collStats"])], False),
        ([], [({"db": "config", "collection": "chunks"}, ["find"])], False),
        ([], [({"anyResource": True}, ["anyAction"])], True),
        ([], [({"cluster": True}, ["find"])], False),
    ],
)
def test_reading_is_told_from_roles_and_privileges(roles: list, privileges: list, reads: bool) -> None:
    declared = access.User(
        "someone",
        "",
        tuple(access.Role(*role) for role in roles),
        tuple(access.Privilege(resource, tuple(actions)) for resource, actions in privileges),
        (),
    )
    assert declared.may_read("shop") is reads


def test_each_component_holds_the_secrets_it_uses() -> None:
    assert KNOWN.held_by("loader") == ("loader.password",)
    assert KNOWN.held_by("chaos") == KNOWN.held_by("rotation") == ("keyfile", "admin.password")
    assert KNOWN.held_by("verification") == ("keyfile", "admin.password", "ledger.password", "monitor.password")
    assert KNOWN.held_by("toolbox") == KNOWN.held_by("bootstrap") == KNOWN.secrets
    with pytest.raises(KeyError):
        KNOWN.held_by("nobody")


def test_the_toolbox_speaks_with_the_shop_and_signs_no_webhook() -> None:
    of_the_shop = access.load(DATABASE, shop=True)
    keys = {key.password for key in of_the_shop.keys}
    assert keys - set(of_the_shop.held_by("toolbox")) == {"shop-webhook.password"}
    for holder in set(of_the_shop.holders) - {"toolbox"}:
        assert not keys & set(of_the_shop.held_by(holder)), holder


def test_verification_holds_the_password_of_every_stranger_it_tries() -> None:
    assert {stranger.password for stranger in KNOWN.strangers(DATABASE)} <= set(KNOWN.held_by("verification"))


def test_the_administrator_is_made_first_and_routers_wait_for_the_last_user() -> None:
    assert KNOWN.administrator.as_task_argument()["roles"] == [{"role": "root", "db": "admin"}]
    assert KNOWN.last.name == "monitor"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[toolbox, bootstrap, loader]", "[toolbox, cellar]", "access.yml: users[1].held_by: no holder 'cellar'"),
        ("- name: monitor", "- name: ledger", "access.yml: users: ledger is there twice"),
        ("    roles: []", "    rolls: []", "access.yml: users[3]: unknown key rolls"),
        ("held_by: []", "held_by: [barn]", "access.yml: shop.keys[3].held_by: no holder 'barn'"),
        ("verification, chaos]\n\n# In", "attic]\n\n# In", "access.yml: keyfile.held_by: no holder 'attic'"),
    ],
)
def test_wrong_access_is_refused_by_its_key(tmp_path: Path, before: str, after: str, message: str) -> None:
    text = access.DEFAULT_FILE.read_text()
    assert text.count(before) == 1
    (tmp_path / "access.yml").write_text(text.replace(before, after))
    with pytest.raises(access.AccessError) as caught:
        access.load(DATABASE, tmp_path / "access.yml", shop=True)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_chart_has_what_is_declared() -> None:
    """`make render` writes it."""
    file = ROOT / "helm" / "sharded-mongodb" / "files" / "declared.json"
    assert file.read_text() == render.declared_text()
    assert [entry["name"] for entry in json.loads(file.read_text())["users"]] == [u.name for u in KNOWN.users]


def test_nothing_else_lists_the_users() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    listed = re.compile(".*".join(user.name for user in KNOWN.users[1:]))
    texts = {name: (ROOT / name).read_text(errors="replace") for name in files if (ROOT / name).is_file()}
    assert [name for name, text in texts.items() if listed.search(text)] == []
