"""Kafka's brokers as processes of this machine: their configuration, the formatting of their folders, their command.

Each is broker and controller at once (KRaft); three are a quorum.  They listen on loopback, ask for a password (SASL
PLAIN), and speak TLS where the cluster does.  Nothing here starts one: `embedded_shop.converge` does.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from ...cluster.errors import ClusterError
from ...cluster.host.files import write_whole
from ...cluster.host.processes import Process
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import CONTROLLER_PORTS, Shop
from ..platform import PlatformError
from .programs import java

HEAP = "256m"
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"
BROKER = "broker"
"""The user that brokers are among themselves; the services are called like their database users."""
SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "auto.create.topics.enable": "false",  # the relay makes the topic, and fills it
    "unclean.leader.election.enable": "false",
    # 50 partitions of this topic, the default, take a broker of this size longer to start than all the rest.
    "offsets.topic.num.partitions": "6",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "6000",  # a broker that died is given up after so long
    "log.retention.hours": "168",
    "log.index.size.max.bytes": "1048576",
}


def settings(shop: Shop, name: str, data: Path, passwords: dict[str, str], tls: Path | None) -> str:
    """The configuration of the broker `name`; `passwords` by user, `tls` the folder with server.pem and ca.pem."""
    nodes = {one.name: number for number, one in enumerate(shop.kafka, start=1)}
    me = next(one for one in shop.kafka if one.name == name)
    copies = len(shop.kafka)
    protocol = "SASL_SSL" if tls else "SASL_PLAINTEXT"
    users = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
    login = f'{MODULE} username="{BROKER}" password="{passwords[BROKER]}"'
    voters = ",".join(f"{nodes[one.name]}@{one.host}:{one.port + CONTROLLER_PORTS}" for one in shop.kafka)
    found = SETTINGS | {
        "node.id": str(nodes[name]),
        "controller.quorum.voters": voters,
        "listeners": f"CLIENT://{me.host}:{me.port},CONTROLLER://{me.host}:{me.port + CONTROLLER_PORTS}",
        "advertised.listeners": f"CLIENT://{me.host}:{me.port}",
        "listener.security.protocol.map": f"CLIENT:{protocol},CONTROLLER:{protocol}",
        "listener.name.client.plain.sasl.jaas.config": f"{login} {users};",
        "listener.name.controller.plain.sasl.jaas.config": f'{login} user_{BROKER}="{passwords[BROKER]}";',
        "log.dirs": str(data / "log"),
        "min.insync.replicas": str(max(1, copies - 1)),
        "default.replication.factor": str(copies),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(max(1, copies - 1)),
        "share.coordinator.state.topic.replication.factor": str(copies),
    }
    if tls:
        found |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(tls / "server.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tls / "ca.pem"),
        }
    lines = ["# Written by Shardmart from the topology; changed there, not here."]
    return "\n".join([*lines, *(f"{key}={value}" for key, value in sorted(found.items())), ""])


def invocation(jars: Path, file: Path) -> tuple[str, ...]:
    """How a broker is started with its configuration file.  ClusterError without Java."""
    return (*_java(jars), "kafka.Kafka", str(file))


def _java(jars: Path) -> tuple[str, ...]:
    # The first compiler alone: a broker of a laptop is started more often than it is busy.
    return (
        java(), f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-cp", f"{jars}/*",
    )  # fmt: skip


def new_cluster_id(random: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """An id for a new Kafka cluster: 16 random bytes in 22 characters, the first never a hyphen.

    Kafka's own `Uuid.randomUuid` leaves those out as well: its tools take them for an option, and so would a
    person who pastes one behind `--cluster-id`.
    """
    while (id_ := base64.urlsafe_b64encode(random().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return id_


def format_folders(brokers: Sequence[Process], jars: Path, cluster_id: Path, deadline: Deadline) -> None:
    """Format the folders of those brokers that have none yet, for the cluster whose id is in the file `cluster_id`.

    ClusterError with what Kafka said.
    """
    new = [broker for broker in brokers if broker.data_folder and not _is_formatted(broker.data_folder)]
    if not new:
        return
    if not cluster_id.exists():
        write_whole(cluster_id, new_cluster_id() + "\n")
    id_ = cluster_id.read_text().strip()
    begun = []
    for broker in new:
        arguments = [*_java(jars), "kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={id_}"]
        begun.append(
            (
                broker,
                subprocess.Popen(  # noqa: S603
                    [*arguments, "--config", str(broker.configuration_file)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    umask=0o077,
                ),
            )
        )
    try:
        for broker, process in begun:
            try:
                said, _ = process.communicate(timeout=max(0.1, deadline.remaining))
            except subprocess.TimeoutExpired:
                raise ClusterError(f"the folder of {broker.name} was not formatted in time") from None
            if process.returncode:
                raise ClusterError(
                    f"Kafka does not format the folder of {broker.name}: {' '.join(said.split())[-400:]}"
                )
    finally:
        for _, process in begun:
            if process.poll() is None:
                process.kill()
                process.wait()


def _is_formatted(data: Path) -> bool:
    return (data / "log" / "meta.properties").exists()


def refuse_missing(jars: Path) -> None:
    """PlatformError unless the jars are there."""
    if not jars.exists():
        raise PlatformError(
            f"Kafka's jars are not in {jars}: run the playbook that "
            'started the shop, with its topology (`make shop ARGS="-e topology=inventories/topologies/shop-kafka.yml"`)'
        )
