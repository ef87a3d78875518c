"""Claims of `shardmart render`: it prints the chart's values of a topology and says what a file has otherwise."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.declare import render

ROOT = Path(__file__).parents[3]
TOPOLOGY = str(ROOT / "inventories" / "topology.yml")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The values of the default topology."""
    assert render.main(["values", TOPOLOGY]) == 0
    values: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return values


def check(file: Path, values: object, *options: str) -> int:
    file.write_text(yaml.safe_dump(values))
    return render.main(["values", TOPOLOGY, "--check", str(file), *options])


def test_values_are_what_the_topology_says(printed: dict[str, Any]) -> None:
    assert printed["image"] == {"tag": "8.0.19"}
    assert [shard["replicaSet"] for shard in printed["shards"]] == ["shard1ReplSet", "shard2ReplSet"]
    assert [shard["zones"] for shard in printed["shards"]] == [["APJ", "EMEA"], ["EMEA", "LATAM"]]
    assert printed["configServers"]["members"] == [{"priority": 1, "votes": 1, "hidden": False, "tags": {}}] * 3


def test_json_is_the_same(printed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(["values", TOPOLOGY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed


def test_nothing_differs_from_itself_whatever_else_a_file_holds(printed: dict[str, Any], tmp_path: Path) -> None:
    more = printed | {"toolbox": {"enabled": False}, "member": {"storage": {"size": "20Gi"}}}
    assert check(tmp_path / "values.yaml", more) == 0


def test_a_count_of_members_is_that_many_default_ones(printed: dict[str, Any], tmp_path: Path) -> None:
    counted = copy.deepcopy(printed)
    counted["configServers"]["members"] = 3
    counted["shards"][0]["members"] = [{}, {"priority": 1}, {"votes": 1}]
    assert check(tmp_path / "values.yaml", counted) == 0
    counted["configServers"]["members"] = 5
    assert check(tmp_path / "values.yaml", counted) == 1


def test_every_difference_is_a_line_that_names_its_key(
    printed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(printed)
    other["image"]["tag"] = "8.0"
    other["shards"][1]["zones"] = ["LATAM"]
    del other["routers"]["replicas"]
    del other["shards"][0]["member"]
    other["tls"]["enabled"] = 0
    file = tmp_path / "values.yaml"
    assert check(file, other) == 1
    assert capsys.readouterr().out.splitlines() == [
        f'image.tag: expected "8.0.19", {file} has "8.0"',
        f"tls.enabled: expected false, {file} has 0",
        f"shards[0].member.cacheSizeMB: expected 256, {file} has nothing",
        f'shards[1].zones: expected ["EMEA", "LATAM"], {file} has ["LATAM"]',
        f"routers.replicas: expected 1, {file} has nothing",
    ]
    assert check(file, other, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["equal"] is False
    assert document["differences"][0] == {"key": "image.tag", "expected": "8.0.19", "found": "8.0"}


def test_a_shard_too_many_and_one_too_few_are_differences(
    printed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "values.yaml"
    assert check(file, printed | {"shards": [*printed["shards"], {"name": "shard3"}]}) == 1
    assert capsys.readouterr().out == f'shards[2]: expected nothing, {file} has {{"name": "shard3"}}\n'
    assert check(file, printed | {"shards": printed["shards"][:1]}) == 1
    assert "shards[1].name: expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["values", "absent.yml"], "absent.yml: cannot be read: No such file or directory"),
        (["values", TOPOLOGY, "--check", "absent.yaml"], "absent.yaml: cannot be read: No such file or directory"),
        (["values", TOPOLOGY, "--check", __file__], "is not YAML"),
        (["values", "{here}/small-cache.yml"], "small-cache.yml: cache_mb: "),
        (["values", "{here}/name.yml"], "name.yml: name: 'UPPER' names a namespace"),
    ],
)
def test_wrong_files_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small-cache.yml").write_text(Path(TOPOLOGY).read_text().replace("cache_mb: 256", "cache_mb: 1"))
    (tmp_path / "name.yml").write_text(Path(TOPOLOGY).read_text().replace("name: shardmart", "name: UPPER"))
    assert render.main([word.replace("{here}", str(tmp_path)) for word in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("shardmart render: ")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_unknown_arguments_are_exit_code_2() -> None:
    assert render.main(["values"]) == 2
    assert render.main(["everything"]) == 2
    assert render.main(["values", "--help"]) == 0


def test_declared_says_what_a_file_has_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "declared.json"
    file.write_text(render.declared_text())
    assert render.main(["declared", "--check", str(file)]) == 0
    file.write_text(render.declared_text().replace('"monitor"', '"auditor"'))
    assert render.main(["declared", "--check", str(file)]) == 1
    assert capsys.readouterr().out == f'users[3].name: expected "monitor", {file} has "auditor"\n'


def test_the_shops_values_are_what_the_topology_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = str(ROOT / "inventories" / "topologies" / "shop.yml")
    assert render.main(["shop", shop, "--cluster", "store"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["cluster"]["name"] == "store"
    assert printed["services"]["order"] == {"port": 3001, "replicas": 2}
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(printed | {"image": {"tag": "2"}}))
    assert render.main(["shop", shop, "--cluster", "store", "--check", str(file)]) == 0
    printed["services"]["order"]["replicas"] = 3
    file.write_text(yaml.safe_dump(printed))
    assert render.main(["shop", shop, "--cluster", "store", "--check", str(file)]) == 1
    assert f"services.order.replicas: expected 2, {file} has 3" in capsys.readouterr().out


def test_a_topology_without_services_has_no_shop_to_render(capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(["shop", TOPOLOGY]) == 2
    assert "services: this topology has none, so there is no shop" in capsys.readouterr().err


def secret_of(capsys: pytest.CaptureFixture[str], topology: str, *options: str) -> dict[str, Any]:
    assert render.main(["secret", topology, "--namespace=shardmart-production", *options]) == 0
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return found


def test_a_secret_has_what_the_charts_job_would_make(capsys: pytest.CaptureFixture[str]) -> None:
    shop = str(ROOT / "inventories" / "topologies" / "shop.yml")
    made = json.loads((ROOT / "helm" / "sharded-mongodb" / "files" / "declared.json").read_text())
    cluster = {"keyfile", *(f"{user['name']}.password" for user in made["users"])}
    found = secret_of(capsys, shop, "--name=our-auth")
    assert found["metadata"] == {"name": "our-auth", "namespace": "shardmart-production"}
    assert set(found["stringData"]) == cluster | set(made["shop"]["passwords"])
    assert set(secret_of(capsys, TOPOLOGY)["stringData"]) == cluster
    assert 6 <= len(found["stringData"]["keyfile"]) <= 1024
    passwords = [value for key, value in found["stringData"].items() if key != "keyfile"]
    assert len(set(passwords)) == len(passwords)


def test_a_secret_takes_what_a_folder_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keyfile").write_text("k" * 1008 + "\n")
    (tmp_path / "admin.password").write_text("given\n")
    found = secret_of(capsys, TOPOLOGY, "--from", str(tmp_path))["stringData"]
    assert (found["keyfile"], found["admin.password"]) == ("k" * 1008, "given")
    assert len(found["loader.password"]) == 32


def test_secrets_are_not_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert render.main(["secret", TOPOLOGY, "--namespace=n"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "not to a terminal" in said.err


def test_a_ring_speaks_tls_where_the_cluster_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(Path(TOPOLOGY).read_text())
    for mode, speaks in (("requireTLS", True), ("disabled", False)):
        file = tmp_path / f"{mode}.yml"
        file.write_text(yaml.safe_dump(document | {"tls": {"mode": mode}}))
        assert render.main(["ring", str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tls"] == {"enabled": speaks}
