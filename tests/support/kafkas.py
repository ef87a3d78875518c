"""Real Kafka brokers for tests, beside a cluster: processes of this machine on free ports, as the role makes them."""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster import shop as described
from shardmart.cluster.description import Cluster
from shardmart.cluster.host.processes import Process
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms.embedded_kafka import programs
from shardmart.platforms.embedded_shop import configuration, converge
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import broker_processes
from shardmart.platforms.maven import Jars, MissingError
from tests.support.clusters import CACHE, EmbeddedCluster, free_ports

START_SECONDS = 240.0


@dataclass
class RunningKafka:
    """The brokers, and what a service is told of them."""

    folder: Path
    """Their state folder."""
    description: Cluster
    jars: Jars

    @property
    def processes(self) -> dict[str, Process]:
        """By name."""
        files = ShopFiles(self.folder, self.jars.folder)
        return {process.name: process for process in broker_processes(self.description, files)}

    def start(self) -> None:
        """Start those that do not run."""
        converge.started(
            converge.EVENT_LOG,
            self.description,
            self.folder,
            Deadline(START_SECONDS),
            kafka_jars=self.jars.folder,
        )

    def kill(self, *names: str) -> None:
        """SIGKILL these, or all."""
        found = [p.running() for name, p in self.processes.items() if not names or name in names]
        for process in found:
            if process:
                process.send_signal(signal.SIGKILL)
        for process in found:
            if process:
                process.wait(30)

    def pause(self) -> None:
        """SIGSTOP all: they take what is sent to them, and do nothing with it."""
        for process in self.processes.values():
            if found := process.running():
                found.suspend()

    def resume(self) -> None:
        """Let all go on."""
        for process in self.processes.values():
            if found := process.running():
                found.resume()

    def empty(self) -> None:
        """Remove what they keep; only while none runs."""
        for process in self.processes.values():
            assert process.running() is None
            assert process.data_folder
            shutil.rmtree(process.data_folder)
        (self.folder / "shop" / "data" / "kafka-cluster-id").unlink()

    def settings(self, service: str = "order") -> dict[str, Any]:
        """The key `kafka` of a service's file."""
        assert self.description.shop
        return {
            "brokers": [broker.address for broker in self.description.shop.kafka],
            "user": f"shop-{service}",
            "password": configuration.Secrets(self.folder / "secrets").get(f"shop-kafka-{service}"),
            "replicas": len(self.description.shop.kafka),
        }


@contextmanager
def running_kafka(cluster: EmbeddedCluster, brokers: int = 1) -> Iterator[RunningKafka]:
    """So many brokers beside `cluster`.  Skips, with the reason, on a machine that cannot have Kafka."""
    try:
        programs.java()
        jars = programs.fetch(CACHE)
    except MissingError as error:
        pytest.skip(f"no Kafka on this machine: {error}")
    first = free_ports(described.CONTROLLER_PORTS + brokers)[0]
    made = tuple(described.Instance(f"kafka-{n + 1}", "127.0.0.1", first + n) for n in range(brokers))
    shop = described.Shop((), described.Backends(event_log="kafka", cache="memory"), kafka=made)
    folder = cluster.folder / f"kafka-{brokers}"
    (folder / "secrets").mkdir(parents=True, mode=0o700)
    running = RunningKafka(folder, replace(cluster.description, shop=shop), jars)
    for name in ("", *(f"-{service}" for service in configuration.EVENT_SERVICES)):
        file = folder / "secrets" / f"shop-kafka{name}.password"
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(20) + "\n")
    # An id as an older state folder may keep one: Kafka's tools would take it for an option.
    (folder / "shop" / "data").mkdir(parents=True)
    (folder / "shop" / "data" / "kafka-cluster-id").write_text("-" + secrets.token_urlsafe(16)[1:] + "\n")
    try:
        running.start()
        yield running
    finally:
        running.kill()
        shutil.rmtree(folder / "shop" / "data", ignore_errors=True)
