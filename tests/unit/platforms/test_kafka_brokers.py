"""What brokers and services are told of Kafka, and what is said where it cannot be had."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from shardmart.cluster.description import TlsSettings
from shardmart.cluster.errors import ClusterError
from shardmart.declare.topology import load
from shardmart.platforms.embedded_kafka import brokers, programs
from shardmart.platforms.embedded_kafka.pins import JARS
from shardmart.platforms.embedded_shop import configuration
from shardmart.platforms.embedded_shop.configuration import EVENT_SERVICES, Secrets, broker_passwords
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import broker_processes
from shardmart.platforms.maven import MissingError
from shardmart.platforms.platform import PlatformError
from shardmart.shop.settings import Kafka

TOPOLOGIES = Path(__file__).parents[3] / "inventories" / "topologies"
CLUSTER = load(TOPOLOGIES / "shop-kafka.yml").resolve()
SHOP = CLUSTER.shop
assert SHOP is not None


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "monitor.password").write_text("m" * 40)
    for name in ("tokens", "cache", "provider", "webhook", "kafka", "catalogue", "mail"):
        (tmp_path / "secrets" / f"shop-{name}.password").write_text(f"secret-of-{name}".ljust(40, "x"))
    for service in EVENT_SERVICES:
        (tmp_path / "secrets" / f"shop-kafka-{service}.password").write_text(f"kafka-of-{service}".ljust(40, "x"))
        (tmp_path / "secrets" / f"shop-{service}.password").write_text(f"secret-of-{service}".ljust(40, "x"))
    return tmp_path


def properties(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith("#")]
    return {key: value for key, _, value in lines}


def test_a_renewed_certificate_is_read_by_a_restart_and_nothing_else_is(state: Path) -> None:
    spoken = replace(CLUSTER, tls=TlsSettings("requireTLS"))

    def told() -> list[str | None]:
        return [process.configuration for process in broker_processes(spoken, ShopFiles(state, state / "jars"))]

    with pytest.raises(PlatformError, match=r"server\.pem is missing"):
        told()
    (state / "tls").mkdir()
    (state / "tls" / "server.pem").write_text("first")
    first = told()
    assert told() == first
    (state / "tls" / "server.pem").write_text("second")
    assert [one for one in told() if one in first] == []


def test_three_brokers_are_a_quorum_and_two_of_them_acknowledge(state: Path) -> None:
    assert SHOP is not None
    passwords = broker_passwords(Secrets(state / "secrets"))
    told = properties(brokers.settings(SHOP, "kafka-2", state / "data", passwords, None))
    assert told["node.id"] == "2"
    assert told["controller.quorum.voters"] == "1@127.0.0.1:9102,2@127.0.0.1:9103,3@127.0.0.1:9104"
    assert told["listeners"] == "CLIENT://127.0.0.1:9093,CONTROLLER://127.0.0.1:9103"
    assert (told["min.insync.replicas"], told["default.replication.factor"]) == ("2", "3")
    assert (told["auto.create.topics.enable"], told["unclean.leader.election.enable"]) == ("false", "false")
    assert told["listener.security.protocol.map"] == "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
    assert [
        name
        for name, password in passwords.items()
        if password not in told["listener.name.client.plain.sasl.jaas.config"]
    ] == []
    assert "kafka-of-order" not in told["listener.name.controller.plain.sasl.jaas.config"]


def test_brokers_speak_tls_where_the_cluster_does(state: Path) -> None:
    assert SHOP is not None
    passwords = broker_passwords(Secrets(state / "secrets"))
    told = properties(brokers.settings(SHOP, "kafka-1", state / "data", passwords, state / "tls"))
    assert told["listener.security.protocol.map"] == "CLIENT:SASL_SSL,CONTROLLER:SASL_SSL"
    assert told["ssl.keystore.location"] == str(state / "tls" / "server.pem")


@pytest.mark.parametrize("service", [*EVENT_SERVICES, "catalogue", "provider", "console"])
def test_a_service_that_handles_events_knows_the_brokers_and_its_own_password(state: Path, service: str) -> None:
    told = json.loads(configuration.settings(service, CLUSTER, state, data=state / "data"))
    assert ("kafka" in told) == (service in EVENT_SERVICES)
    held = {other for other in EVENT_SERVICES if f"kafka-of-{other}" in json.dumps(told)}
    assert held == ({service} & set(EVENT_SERVICES))
    if "kafka" in told:
        read = Kafka.model_validate(told["kafka"])
        assert (read.user, read.replicas, len(read.brokers), read.ca_file) == (f"shop-{service}", 3, 3, None)


def test_no_password_is_in_a_broker_s_arguments(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "java", lambda: "/usr/bin/java")
    for process in broker_processes(CLUSTER, ShopFiles(state, state / "jars")):
        assert "kafka-of" not in " ".join(process.command)
        assert process.command[process.command.index(process.marker) - 1] == "kafka.Kafka"


def test_a_shop_without_kafka_has_no_brokers_and_needs_no_java(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    without = replace(CLUSTER, shop=load(TOPOLOGIES / "shop.yml").resolve().shop)
    assert broker_processes(without, ShopFiles(state)) == []


@pytest.mark.parametrize("home", [True, False])
def test_a_missing_java_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if home:
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    with pytest.raises(MissingError, match=r"^Kafka needs Java, .*event_log: mongodb\)$"):
        programs.java()


def test_a_java_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingError, match=r"needs Java 17, and .* is 11"):
        programs.java()


def test_jars_that_are_not_those_of_the_lock_are_not_used(tmp_path: Path) -> None:
    for name in JARS:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ClusterError, match=r"sha256 is .*, expected .*; it is not used"):
        programs.LOCK.verify(tmp_path)
    (tmp_path / "stranger.jar").write_bytes(b"")
    with pytest.raises(ClusterError, match=r"has stranger.jar, which pins.py does not name"):
        programs.LOCK.verify(tmp_path)
    next(tmp_path.glob("kafka-raft*")).unlink()
    with pytest.raises(ClusterError, match=r"lacks kafka-raft"):
        programs.LOCK.verify(tmp_path)


def test_the_id_of_a_new_cluster_is_never_taken_for_an_option() -> None:
    drawn = iter([uuid.UUID(bytes=bytes([first]) + bytes(15)) for first in (0xF8, 0xFB, 0xFC)])

    assert brokers.new_cluster_id(lambda: next(drawn)) == "_" + "A" * 21
    assert next(drawn, None) is None, "an id with a hyphen in front was taken"
