"""Claims of PostgreSQL in helm/shop: it is told what the embedded one is, services find it, passwords stay in files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.converge.unchangeable import refuse_changes
from shardmart.cluster.description import Cluster
from shardmart.cluster.errors import ClusterError
from shardmart.declare import chart, release, shop_chart, topology
from shardmart.declare.release import Release
from shardmart.platforms import postgres
from shardmart.platforms.embedded_shop.configuration import EVENT_SERVICES
from shardmart.shop.adapters.postgres.tables import RIGHTS
from shardmart.shop.settings import Postgres, Relational
from tests.unit.chart.test_kafka_chart import named, rendered

ROOT = Path(__file__).parents[3]
START = ROOT / "helm" / "shop" / "files" / "start-postgres.sh"
NAMESPACE = "shopping"
HOST = f"store-shop-postgres.{NAMESPACE}.svc.cluster.local"
PLACES = {"listen_addresses", "ssl_cert_file", "ssl_key_file"}


def declared(mode: str = "disabled", **backends: Any) -> topology.Topology:
    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
    given = {"services": {}, "tls": {"mode": mode}, "backends": {"store": "postgres"} | backends}
    return topology.parse(document | given, "test")


def described(one: topology.Topology) -> Cluster:
    return release.describe(chart.document(chart.chart_values(one), Release("store", NAMESPACE, "store")))


def parameters(text: str) -> dict[str, str]:
    lines = [line.partition(" = ") for line in text.splitlines() if line and not line.startswith("#")]
    return {key: value for key, _, value in lines}


@pytest.mark.parametrize("tls", ["disabled", "requireTLS"])
def test_a_server_in_a_pod_is_told_what_one_on_this_machine_is(tmp_path: Path, tls: str) -> None:
    objects = rendered(tmp_path, shop_chart.shop_values(declared(tls), "store"))
    told = named(objects, "ConfigMap", "store-shop-postgres")["data"]
    spoken = tls != "disabled"
    server = postgres.Server(
        "shop-postgres", 5432, "postgres", tmp_path, postgres.Host(tmp_path), peers=False, tls=spoken
    )
    embedded = server.settings | {"port": "5432"}
    pod = parameters(told["postgresql.conf"])
    assert set(pod) == set(embedded)
    assert {key: pod[key] for key in pod if key not in PLACES} == {
        key: embedded[key] for key in embedded if key not in PLACES
    }
    assert told["pg_hba.conf"].split() == ["hostssl" if spoken else "host", "all", "all", "all", "scram-sha-256"]


@pytest.mark.parametrize("tls", ["disabled", "requireTLS"])
def test_services_are_told_of_the_server_where_the_cluster_describes_it(tmp_path: Path, tls: str) -> None:
    one = declared(tls, catalogue="postgres")
    shop = described(one).shop
    assert shop is not None
    assert shop.postgres is not None
    assert (shop.postgres.address, shop.postgres.pod) == (f"{HOST}:5432", "store-shop-postgres-1")
    backends = shop.backends
    assert (backends.store, backends.catalogue, backends.event_log) == ("postgres", "postgres", "postgres")
    assert backends.postgres_is_ours
    assert backends.tls == (tls != "disabled")
    assert shop.cache_tls is None
    objects = rendered(tmp_path, shop_chart.shop_values(one, "store"))
    files = {
        name.removesuffix(".json"): json.loads(text)
        for name, text in named(objects, "ConfigMap", "store-shop-settings")["data"].items()
    }
    assert {name for name, file in files.items() if "store" in file} == set(EVENT_SERVICES)
    assert {name for name, file in files.items() if "postgres" in file} == {"catalogue"}
    assert {name for name, file in files.items() if "mongodb" in file} == {"catalogue", "order"}
    for name in EVENT_SERVICES:
        read = Relational.model_validate(files[name]["store"] | {"password": "p" * 40})
        assert (read.host, read.port, read.user, read.database) == (HOST, 5432, f"shop_{name}", "shop")
        assert read.user in RIGHTS
        assert read.sslmode == ("prefer" if tls == "disabled" else "verify-full")
        assert files[name]["store"]["password"] == f"{{secret:shop-postgres-{name}}}"
    products = Postgres.model_validate(files["catalogue"]["postgres"] | {"password": "p" * 40})
    assert (products.host, products.user) == (HOST, "shop_catalogue")
    job = named(objects, "CronJob", "store-shop-migrate")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounted = {
        item["path"]
        for source in job["volumes"][0]["projected"]["sources"]
        for item in (source.get("secret") or source["configMap"])["items"]
    }
    users = {f"secrets/{user.replace('shop_', 'shop-postgres-')}.password" for user in RIGHTS}
    assert users | {"secrets/shop-postgres.password", "settings.json"} <= mounted


def test_a_server_that_is_there_is_described_as_it_is_given(tmp_path: Path) -> None:
    one = declared(postgres_host="db.example.net", postgres_port=6432, postgres_flavour="cockroach")
    shop = described(one).shop
    assert shop is not None
    assert shop.postgres is not None
    assert (shop.postgres.address, shop.postgres.pod) == ("db.example.net:6432", None)
    assert (shop.backends.postgres_is_ours, shop.backends.postgres_flavour, shop.backends.tls) == (
        False,
        "cockroach",
        True,
    )
    values = shop_chart.shop_values(one, "store")
    values["postgres"]["administrator"] = {"secret": "owner"}
    objects = rendered(tmp_path, values)
    file = json.loads(named(objects, "ConfigMap", "store-shop-settings")["data"]["order.json"])
    read = Relational.model_validate(file["store"] | {"password": "p" * 40})
    assert (read.host, read.port, read.flavour, read.sslmode) == ("db.example.net", 6432, "cockroach", "require")
    assert [one for one in objects if one["kind"] == "StatefulSet" and "postgres" in one["metadata"]["name"]] == []


def test_without_it_nobody_looks_for_one(tmp_path: Path) -> None:
    one = declared(store="mongodb")
    shop = described(one).shop
    assert shop is not None
    assert (shop.postgres, shop.backends.store, shop.backends.event_log) == (None, "mongodb", "mongodb")
    objects = rendered(tmp_path, shop_chart.sized_for_a_laptop(shop_chart.shop_values(one, "store")))
    assert [one["kind"] for one in objects if "postgres" in one["metadata"]["name"]] == []


@pytest.mark.parametrize(
    ("backends", "line"),
    [
        ({"postgres_nodes": 3}, "backends.postgres_nodes: on Kubernetes the shop has one server of PostgreSQL"),
        ({"cache": "redis-cluster"}, "backends.cache: on Kubernetes the shop has redis or memory"),
    ],
)
def test_what_pods_cannot_have_is_refused_by_its_key(backends: dict[str, Any], line: str) -> None:
    one = declared("requireTLS", **backends)
    for values in (shop_chart.in_cluster_chart, lambda given: shop_chart.shop_values(given, "store")):
        with pytest.raises(topology.TopologyError) as refused:
            values(one)
        assert str(refused.value).startswith(line)


def test_both_charts_know_one_secret_and_one_authority(tmp_path: Path) -> None:
    one = declared("requireTLS")
    objects = rendered(tmp_path, shop_chart.shop_values(one, "store"))
    (job,) = [o for o in objects if o["kind"] == "Job" and o["metadata"]["name"] == "store-shop-postgres-secrets"]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    (tmp_path / "cluster.json").write_text(json.dumps(chart.chart_values(one)))
    command = ["helm", "template", "store", "helm/sharded-mongodb", f"--namespace={NAMESPACE}"]
    done = subprocess.run(
        [*command, f"--values={tmp_path}/cluster.json", "--show-only=templates/toolbox/deployment.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (state,) = [v for v in yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["volumes"] if v["name"] == "state"]
    optional = [s["secret"] for s in state["projected"]["sources"] if s.get("secret", {}).get("optional")]
    held = {secret["name"]: [item["path"] for item in secret["items"]] for secret in optional}
    assert held["store-shop-postgres"] == ["secrets/shop-postgres-ledger.password"]
    assert held["store-shop-postgres-tls"] == ["tls/shop-postgres-ca.pem"]
    assert {"--password-secret=store-shop-postgres", "--tls-secret=store-shop-postgres-tls"} <= set(arguments)
    assert f"--dns-name={HOST}" in arguments


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A server's folders, and programs that say with what they were started."""
    for folder in ("etc/secrets", "data", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc" / "secrets" / "shop-postgres.password").write_text("of-the-administrator\n")
    for name, more in (("initdb", f"mkdir {tmp_path}/data/postgres.partial; "), ("postgres", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\n{more}echo {name} "$@" >> {tmp_path}/started\n')
        program.chmod(0o755)
    return tmp_path


def start(pod: Path) -> subprocess.CompletedProcess[str]:
    text = START.read_text().replace("/etc/postgres", str(pod / "etc")).replace("/data", str(pod / "data"))
    told = {"ADMINISTRATOR": "postgres", "PATH": f"{pod}/bin:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", text], env=told, capture_output=True, text=True, check=False)


def test_a_volume_is_made_once_and_what_was_interrupted_is_made_anew(pod: Path) -> None:
    (pod / "data" / "postgres.partial" / "half").mkdir(parents=True)
    done = start(pod)
    assert done.returncode == 0, done.stderr
    assert not (pod / "data" / "postgres" / "half").exists()
    assert (pod / "data" / "postgres").stat().st_mode & 0o777 == 0o700
    (pod / "data" / "postgres" / "PG_VERSION").touch()
    (pod / "data" / "postgres").chmod(0o770)
    assert start(pod).returncode == 0
    assert (pod / "data" / "postgres").stat().st_mode & 0o777 == 0o700
    started = (pod / "started").read_text()
    assert [line.split()[0] for line in started.splitlines()] == ["initdb", "postgres", "postgres"]
    assert "of-the-administrator" not in started + done.stdout + done.stderr
    assert f"--pwfile={pod}/etc/secrets/shop-postgres.password" in started
    assert started.splitlines()[-1] == (
        f"postgres -D {pod}/data/postgres --config-file={pod}/etc/postgresql.conf --hba-file={pod}/etc/pg_hba.conf"
    )


def test_tls_is_not_switched_under_services_that_run_in_pods() -> None:
    spoken, plain = described(declared("requireTLS")), described(declared("requireTLS", tls=False))
    for before, after, what in ((spoken, plain, "TLS"), (plain, spoken, "no TLS")):
        with pytest.raises(ClusterError, match=rf"^backends\.tls: services run whose PostgreSQL speaks {what}, and"):
            refuse_changes(before, after)
    refuse_changes(spoken, spoken)


def test_a_shop_in_pods_is_not_told_to_move_its_store() -> None:
    with pytest.raises(ClusterError, match=r"^backends\.store: .* they are not moved, .*`site\.yml`") as refused:
        refuse_changes(described(declared(store="mongodb")), described(declared()))
    assert "move_store" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "authority", "mounted"), [({}, "", True), ({"host": "db.x"}, "", False), ({"host": "db.x"}, "mine", True)]
)
def test_the_toolbox_takes_no_kept_authority_for_that_of_a_given_server(
    given: dict[str, str], authority: str, mounted: bool
) -> None:
    sets = {"tls.enabled": "true", "shop.enabled": "true", "shop.postgres.store": "true"}
    sets |= {f"shop.postgres.{key}": value for key, value in given.items()} | {"shop.postgres.tlsSecret": authority}
    command = ["helm", "template", "store", "helm/sharded-mongodb", *(f"--set={k}={v}" for k, v in sets.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("shop-postgres-ca.pem" in done.stdout) is mounted
