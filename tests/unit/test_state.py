"""How commands find the cluster, and that they say what to do when there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import yaml

from shardmart.cluster.description import TlsSettings
from shardmart.declare import chart, release, topology
from shardmart.platforms.state import State, StateError, resolve_uri

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "loader.password").write_text("p@ss/word\n")
    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text()) | {"routers": {"count": 2}}
    (tmp_path / "cluster.json").write_text(topology.parse(document, "test").resolve().dumps())
    return tmp_path


def test_uri_goes_through_every_router_with_the_password_quoted(state: Path) -> None:
    assert (
        State(state).uri("loader") == "mongodb://loader:p%40ss%2Fword@127.0.0.1:27017,127.0.0.1:27018/?authSource=admin"
    )


def test_uri_of_a_cluster_with_tls_trusts_its_authority(state: Path) -> None:
    (state / "cluster.json").write_text(replace(State(state).description(), tls=TlsSettings("requireTLS")).dumps())
    with pytest.raises(StateError, match=r"tls/ca.pem is missing: run `make up`"):
        State(state).uri("loader")
    (state / "tls").mkdir()
    (state / "tls" / "ca.pem").touch()
    assert State(state).uri("loader").endswith(f"&tls=true&tlsCAFile={quote_plus(str(state / 'tls' / 'ca.pem'))}")


def test_left_over_authority_does_not_make_a_plain_cluster_speak_tls(state: Path) -> None:
    (state / "tls").mkdir()
    (state / "tls" / "ca.pem").touch()
    assert "tls" not in State(state).uri("loader")


def test_given_uri_comes_before_file_before_environment_before_state(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "uri"
    file.write_text("mongodb://from-file/\n")
    assert resolve_uri(user="loader", state=state).startswith("mongodb://loader:")
    monkeypatch.setenv("SHARDMART_URI", "mongodb://from-environment/")
    assert resolve_uri(user="loader", state=state) == "mongodb://from-environment/"
    assert resolve_uri(None, file, user="loader", state=state) == "mongodb://from-file/"
    assert resolve_uri("mongodb://given/", file, user="loader", state=state) == "mongodb://given/"


def test_no_cluster_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDMART_URI", raising=False)
    with pytest.raises(StateError, match="run `make up`"):
        resolve_uri(user="loader", state=tmp_path)
    with pytest.raises(StateError, match="cannot read the URI file"):
        resolve_uri(None, tmp_path / "absent", user="loader")


def test_cluster_is_found_from_a_folder_below_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDMART_STATE", raising=False)
    made = state / ".shardmart"
    made.mkdir()
    below = state / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert State.find().folder == below / ".shardmart", "nothing above is a cluster"
    (state / "cluster.json").rename(made / "cluster.json")
    assert State.find().folder == made
    monkeypatch.setattr("os.geteuid", lambda: made.stat().st_uid + 1)
    assert State.find().folder == below / ".shardmart", "somebody else's is not taken"
    monkeypatch.setenv("SHARDMART_STATE", str(state / "other"))
    assert State.find().folder == state / "other"


def test_hint_names_the_command_of_the_cluster_that_is_there(state: Path) -> None:
    """Plain `make up` would stop the shop, and make processes beside the pods."""
    with pytest.raises(StateError, match=r"no password of admin in .*: run `make up`$"):
        State(state).password("admin")
    with pytest.raises(StateError, match=r"no password of shop-cache in .*: run `make shop`, or `make up` with the"):
        State(state).password("shop-cache")

    shop = topology.load(ROOT / "inventories" / "topologies" / "shop.yml")
    (state / "cluster.json").write_text(shop.resolve().dumps())
    with pytest.raises(StateError, match=r"no password of admin in .*: run `make shop`, or"):
        State(state).password("admin")

    place = release.Release("shardmart", "shardmart", fullname="shardmart")
    pods = release.describe(chart.document(chart.chart_values(shop, "cluster.local"), place))
    for kubeconfig, inventory in ((None, "kind"), ("/theirs", "kubernetes")):
        (state / "cluster.json").write_text(pods.reached_by(kubeconfig, "context").dumps())
        with pytest.raises(StateError, match=rf"run `ansible-playbook -i inventories/{inventory} site.yml`"):
            State(state).password("admin")


def test_no_hint_of_the_shop_says_make_up_alone() -> None:
    """`make up` without the shop's topology stops it: who reads a message of the shop is told what brings it back."""
    said = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in ("shop", "platforms/embedded_shop", "platforms/embedded_kafka", "ledger/shop", "ledger/workloads")
        for file in (ROOT / "src" / "shardmart" / folder).rglob("*.py")
        for line in file.read_text().splitlines()
        if "make up" in line and "topology" not in line
    ]
    assert said == []
