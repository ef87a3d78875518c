"""Claims of Kafka in helm/shop: it is told what embedded brokers are, services find it, passwords stay in files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import Cluster
from shardmart.declare import chart, release, shop_chart, topology
from shardmart.declare.release import Release
from shardmart.platforms.embedded_kafka import brokers
from shardmart.platforms.embedded_shop.configuration import EVENT_SERVICES
from shardmart.shop.settings import Kafka

ROOT = Path(__file__).parents[3]
KAFKA = ROOT / "inventories" / "topologies" / "shop-kafka.yml"
START = ROOT / "helm" / "shop" / "files" / "start-broker.sh"
NAMESPACE = "shopping"
PASSWORDS = {brokers.BROKER: "of-the-brokers"} | {f"shop-{name}": f"of-{name}" for name in EVENT_SERVICES}


def declared(**backends: Any) -> topology.Topology:
    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
    return topology.parse(document | {"services": {}, "backends": {"event_log": "kafka"} | backends}, "test")


def described(one: topology.Topology) -> Cluster:
    return release.describe(chart.document(chart.chart_values(one), Release("store", NAMESPACE, "store")))


def rendered(folder: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    (folder / "values.json").write_text(json.dumps(values))
    command = [
        "helm",
        "template",
        "store-shop",
        "helm/shop",
        f"--namespace={NAMESPACE}",
        f"--values={folder}/values.json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def properties(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith("#")]
    return {key: value for key, _, value in lines}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("tls", ["disabled", "requireTLS"])
def test_a_broker_in_a_pod_is_told_what_one_on_this_machine_is(tmp_path: Path, count: int, tls: str) -> None:
    one = declared(kafka_brokers=count)
    values = shop_chart.shop_values(one, "store")
    values["cluster"]["tls"]["enabled"] = tls != "disabled"
    configmap = named(rendered(tmp_path, values), "ConfigMap", "store-shop-kafka")
    shop = described(one).shop
    assert shop is not None
    assert len(shop.kafka) == count
    certificates = tmp_path / "tls" if tls != "disabled" else None
    embedded = properties(brokers.settings(shop, "kafka-1", tmp_path, PASSWORDS, certificates))
    of_a_start = {"node.id", "advertised.listeners"} | {key for key in embedded if key.endswith("jaas.config")}
    places = {"listeners", "log.dirs", "ssl.keystore.location", "ssl.truststore.location"}
    pods = properties(configmap["data"]["broker.properties"])
    assert set(pods) == set(embedded) - of_a_start
    # The voters are among what is the same: the chart and the description know each other's names of pods.
    assert {key: value for key, value in pods.items() if key not in places} == {
        key: value for key, value in embedded.items() if key not in places | of_a_start
    }


def test_services_are_told_of_the_brokers_where_the_cluster_describes_them(tmp_path: Path) -> None:
    one = topology.load(KAFKA)
    shop = described(one).shop
    assert shop is not None
    assert shop.backends.event_log == "kafka"
    assert [broker.pod for broker in shop.kafka] == [f"store-shop-kafka-{n}" for n in (1, 2, 3)]
    objects = rendered(tmp_path, shop_chart.shop_values(one, "store"))
    files = named(objects, "ConfigMap", "store-shop-settings")["data"]
    told = {name.removesuffix(".json"): json.loads(text).get("kafka") for name, text in files.items()}
    assert {name for name, kafka in told.items() if kafka} == set(EVENT_SERVICES)
    for name in EVENT_SERVICES:
        read = Kafka.model_validate(told[name] | {"password": "p" * 40})
        assert read.brokers == tuple(broker.address for broker in shop.kafka)
        assert (read.user, read.replicas, told[name]["password"]) == (
            f"shop-{name}",
            3,
            f"{{secret:shop-kafka-{name}}}",
        )
    statefulset = named(objects, "StatefulSet", "store-shop-kafka")
    assert statefulset["spec"]["replicas"] == 3
    (service,) = [o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "store-shop-kafka"]
    assert statefulset["spec"]["serviceName"] == service["metadata"]["name"]


def test_without_kafka_nobody_looks_for_a_broker(tmp_path: Path) -> None:
    one = declared(event_log="mongodb")
    shop = described(one).shop
    assert shop is not None
    assert (shop.kafka, shop.backends.event_log) == ((), "mongodb")
    objects = rendered(tmp_path, shop_chart.sized_for_a_laptop(shop_chart.shop_values(one, "store")))
    assert [o["kind"] for o in objects if "kafka" in o["metadata"]["name"]] == []


def test_brokers_of_a_laptop_ask_for_little(tmp_path: Path) -> None:
    values = shop_chart.sized_for_a_laptop(shop_chart.shop_values(declared(), "store"))
    spec = named(rendered(tmp_path, values), "StatefulSet", "store-shop-kafka")["spec"]
    assert spec["template"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "10m", "memory": "320Mi"}
    assert spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"] == {"storage": "1Gi"}


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A broker's folders, and a Java that says with what it was started."""
    for folder in ("etc/secrets", "run", "data", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    for user, password in PASSWORDS.items():
        name = "shop-kafka" if user == brokers.BROKER else user.replace("shop-", "shop-kafka-")
        (tmp_path / "etc" / "secrets" / f"{name}.password").write_text(password + "\n")
    (tmp_path / "etc" / "broker.properties").write_text("process.roles=broker,controller\n")
    java = tmp_path / "bin" / "java"
    java.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/started\n')
    java.chmod(0o755)
    return tmp_path


def start(pod: Path, count: int = 3) -> subprocess.CompletedProcess[str]:
    text = START.read_text()
    for there, here in {"/etc/kafka": "etc", "/run/kafka": "run", "/data": "data"}.items():
        text = text.replace(there, str(pod / here))
    told = {"POD": "store-shop-kafka-2", "SERVICE": "store-shop-kafka", "DOMAIN": "store-shop-kafka.shopping.svc.x"}
    told |= {"PORT": "9092", "BROKERS": str(count), "CLUSTER": "0123456789abcdef01234A", "LIBRARIES": "/opt/kafka/libs"}
    path = f"{pod}/bin:{os.environ['PATH']}"
    command = ["sh", "-c", text, "start-broker.sh", "-Xmx256m"]
    return subprocess.run(command, env=told | {"PATH": path}, capture_output=True, text=True, check=False)


def test_a_start_tells_the_broker_its_passwords_by_a_file_alone(pod: Path) -> None:
    shop = described(declared(kafka_brokers=3)).shop
    assert shop is not None
    done = start(pod)
    assert done.returncode == 0, done.stderr
    written = pod / "run" / "broker.properties"
    assert written.stat().st_mode & 0o777 == 0o600
    told, embedded = properties(written.read_text()), brokers.settings(shop, "kafka-2", pod, PASSWORDS, None)
    for key in ("node.id", *(f"listener.name.{name}.plain.sasl.jaas.config" for name in ("client", "controller"))):
        assert told[key].split() == properties(embedded)[key].split()
    assert told["advertised.listeners"] == "CLIENT://store-shop-kafka-2.store-shop-kafka.shopping.svc.x:9092"
    started = (pod / "started").read_text()
    assert [password for password in PASSWORDS.values() if password in started + done.stdout + done.stderr] == []
    formatted, run = started.splitlines()
    assert "kafka.tools.StorageTool format --ignore-formatted --cluster-id=0123456789abcdef01234A" in formatted
    assert run.endswith(f"-cp /opt/kafka/libs/* kafka.Kafka {written}")
    assert run.startswith("-Xmx256m -XX:+ExitOnOutOfMemoryError")


def test_a_volume_is_formatted_once_and_refused_for_another_quorum(pod: Path) -> None:
    start(pod)
    (pod / "data" / "log").mkdir()
    (pod / "data" / "log" / "meta.properties").touch()
    assert start(pod).returncode == 0
    assert [("StorageTool" in line) for line in (pod / "started").read_text().splitlines()] == [True, False, False]
    refused = start(pod, count=1)
    assert refused.returncode == 1
    assert refused.stderr.startswith("This volume is of a log with 3 broker(s), and kafka.brokers is 1: put it back")


@pytest.mark.parametrize("password", ["", 'with"quote'])
def test_a_password_that_would_break_the_file_is_refused_and_not_shown(pod: Path, password: str) -> None:
    (pod / "etc" / "secrets" / "shop-kafka-order.password").write_text(password)
    done = start(pod)
    assert done.returncode == 1
    assert done.stderr.startswith("shop-kafka-order.password in the Secret is empty, or has more than letters, digits")
    assert "quote" not in done.stdout + done.stderr
    assert not (pod / "started").exists()
