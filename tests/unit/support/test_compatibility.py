"""Everything of MongoDB that the code uses is found in it, is known, and stands on docs/compatibility.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compatibility import access, config_fields, error_codes, settings
from tests.support.compatibility.__main__ import PAGE
from tests.support.compatibility.commands import Commands, Unfollowed
from tests.support.compatibility.derive import derive
from tests.support.compatibility.findings import load
from tests.support.compatibility.page import page, unknown
from tests.support.compatibility.syntax import Module
from tests.support.compatibility.use import Kind, Use


@pytest.fixture(scope="module")
def used() -> tuple[set[Use], list[Unfollowed]]:
    return derive()


def test_every_command_can_be_followed_to_its_name(used: tuple[set[Use], list[Unfollowed]]) -> None:
    assert used[1] == []


def test_everything_that_the_code_uses_is_known(used: tuple[set[Use], list[Unfollowed]]) -> None:
    assert unknown(used[0], load()) == [], "look it up and enter it in tests/support/compatibility/findings.yml"


def test_page_is_made_from_code_and_findings(used: tuple[set[Use], list[Unfollowed]]) -> None:
    assert PAGE.read_text() == page(used[0], load()), "run: make compatibility"


def test_what_nobody_looked_up_is_named_with_its_place() -> None:
    use = Use(Kind.COMMAND, "frobnicate", "src/shardmart/cluster/x.py", 7)
    assert unknown([use], load()) == ["command frobnicate (src/shardmart/cluster/x.py:7)"]


def module(tmp_path: Path, text: str, name: str = "planted.py", others: dict[str, Module] | None = None) -> Module:
    file = tmp_path / name
    file.write_text(text)
    return Module.read(file, {} if others is None else others, tmp_path)


def names(uses: object) -> set[str]:
    return {use.name for use in uses}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        'client.admin.command("planted")',
        'client.admin.command({"planted": 1, "x": 2})',
        'targets.command(address(), {"planted": 1}, 5)',
        'PLANTED = {"planted": 1}\n\ndef do():\n    client.admin.command(PLANTED | {"x": 1})',
        'def do(client):\n    command = {"planted": 1}\n    command["x"] = 1\n    client.admin.command(command)',
        'def made():\n    return {"planted": 1}\n\ndef do(client):\n    client.admin.command(made())',
        'def _retry(client, command):\n    return client.admin.command(command)\n\n_retry(c, {"planted": 1})',
        'def _retry(client, command):\n    return client.admin.command(command)\n\n_retry(c, command={"planted": 1})',
        'client.admin.command({"planted" if on else "other": 1})',
        "def do(admin):\n    todo = []\n    todo.append((1, {'planted': 1}))\n    for _, command in todo:\n"
        "        admin.command(command)",
        "def more():\n    return [(1, {'planted': 1})]\n\ndef do(admin):\n    todo = []\n    todo += more()\n"
        "    for _, command in todo:\n        admin.command(command)",
    ],
)
def test_command_is_found_however_it_is_sent(tmp_path: Path, text: str) -> None:
    commands = Commands([module(tmp_path, text)])
    assert "planted" in names(commands.uses())
    assert commands.unfollowed == []


def test_command_is_found_through_a_function_of_another_module(tmp_path: Path) -> None:
    others: dict[str, Module] = {}
    module(tmp_path, "def send(client, command):\n    client.admin.command(command)", "a.py", others)
    module(tmp_path, 'from a import send\nsend(client, {"planted": 1})  # a command', "b.py", others)
    assert "planted" in names(Commands(list(others.values())).uses())


def test_command_that_cannot_be_followed_is_said(tmp_path: Path) -> None:
    commands = Commands([module(tmp_path, "client.admin.command(queue.pop().document)")])
    assert list(commands.uses()) == []
    assert [one.expression for one in commands.unfollowed] == ["queue.pop().document"]


def test_methods_of_the_driver_are_the_commands_they_send(tmp_path: Path) -> None:
    text = 'import pymongo\nthings.update_one({}, {})\n"text".find("x")\nthings.find({})\n'
    assert names(Commands([module(tmp_path, text)]).uses()) == {"update", "find", "getMore", "killCursors"}


def test_configuration_and_parameters_are_found_in_python(tmp_path: Path) -> None:
    text = (
        "WARN = {'planted': True}\n\ndef conf(port, tls):\n    net = {'port': port}\n    if tls:\n"
        "        net['tls'] = {'mode': 'x'}\n    made = {'net': net, 'storage': {'dbPath': '/x'},"
        " 'setParameter': {'first': 1} | (WARN if tls else {})}\n"
        "    made['security']['authorization'] = 'enabled'\n    return (mongod, '--config', made)\n"
    )
    found = set(settings.in_python(module(tmp_path, text)))
    assert names(use for use in found if use.kind is Kind.PARAMETER) == {"first", "planted"}
    assert names(use for use in found if use.kind is Kind.CONFIGURATION) == {
        "net.port", "net.tls.mode", "storage.dbPath", "security.authorization", "--config",
    }  # fmt: skip


def test_configuration_and_parameters_are_found_in_templates(tmp_path: Path) -> None:
    template = tmp_path / "member.tpl"
    template.write_text(
        '{{- $conf := dict\n  "net" (dict "port" (int .p) "unixDomainSocket" (dict "enabled" false))\n'
        '  "setParameter" (dict "first" false "second" (mul 1000 2))\n-}}\n'
        '{{- $_ := set $conf.net "tls" (dict "mode" .mode) -}}\n{{- $_ := set $conf.setParameter "third" true -}}\n'
        "command: [start-member.sh, mongos]\nargs:\n  - --configdb=x\n  - --setParameter=fourth=1\n"
    )
    assert names(settings.in_template(template, tmp_path)) == {
        "net.port", "net.unixDomainSocket.enabled", "net.tls.mode", "first", "second", "third", "fourth",
        "--configdb", "--setParameter",
    }  # fmt: skip


def test_configuration_is_found_in_values(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("member:\n  config:\n    net: {maxIncomingConnections: 7}\n    setParameter: {planted: 1}\n")
    assert names(settings.in_yaml(values, tmp_path)) == {"net.maxIncomingConnections", "planted"}


def test_fields_of_the_configuration_database_are_found(tmp_path: Path) -> None:
    text = (
        "def do(client):\n    config = client['config']\n    for shard in config['shards'].find({'draining': True}):\n"
        "        print(shard['host'], shard.get('tags'))\n    entry = client.config.collections.find_one({'_id': 1})\n"
        "    return entry['key']\n"
    )
    assert names(config_fields.in_python(module(tmp_path, text))) == {
        "config.shards", "config.shards.draining", "config.shards.host", "config.shards.tags",
        "config.collections", "config.collections._id", "config.collections.key",
    }  # fmt: skip


def test_roles_and_actions_are_found(tmp_path: Path) -> None:
    file = tmp_path / "access.yml"
    file.write_text(
        "users:\n  - roles: [{role: readWrite, db: x}]\n    privileges:\n"
        "      - {resource: {db: config, collection: chunks}, actions: [find, planted]}\n"
    )
    assert names(access.in_yaml(file, tmp_path)) == {"readWrite", "find", "planted", "config.chunks"}


@pytest.mark.parametrize(
    "text",
    [
        "import pymongo\nif error.code == 4711:\n    pass",
        "import pymongo\nGONE = frozenset({4711})\nif error.code in GONE:\n    pass",
        "import pymongo\nif {e['code'] for e in errors} - {4711}:\n    pass",
        "import pymongo\nis_code(error, 4711)",
    ],
)
def test_error_code_is_found_however_it_is_compared(tmp_path: Path, text: str) -> None:
    assert names(error_codes.in_python(module(tmp_path, text))) == {"4711"}


def test_incomplete_finding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "findings.yml"
    entry = "{kind: command, names: [ping], states: [run, differs], sources: [manual]}"
    file.write_text(f"versions: ['6.0', '8.0']\nsources: {{manual: x}}\nfindings:\n  - {entry}\n")
    with pytest.raises(ValueError, match=r"findings\[0\]\.remark: say what differs"):
        load(file)
