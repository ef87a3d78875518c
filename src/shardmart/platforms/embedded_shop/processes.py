"""Which processes the shop is, how each is started, and in what order they are kept.

Everything lies in the folder `shop` of the state folder: configuration, data, logs, pid files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...cluster.description import Cluster
from ...cluster.host.processes import Process, recorded, write_configuration
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import Instance, Shop
from ..embedded_kafka import brokers
from ..platform import PlatformError
from . import envoy
from .configuration import Secrets, broker_passwords, cache_configuration, mail_configuration, settings
from .files import FOLDER, ShopFiles

ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}
"""glibc's default of eight arenas a core costs an instance some 15 MB for nothing."""


def cache_processes(shop: Shop, files: ShopFiles, program: str) -> list[Process]:
    """The cache server, or the nodes of its cluster."""
    made, secrets = [], Secrets(files.state / "secrets")
    for node in shop.caches:
        file = files.configuration(f"{node.name}.conf")
        text = cache_configuration(node, shop, secrets, files.data(node.name))
        made.append(_process(node, files, (program, str(file)), file, text, data=True))
    return made


def broker_processes(cluster: Cluster, files: ShopFiles) -> list[Process]:
    """Kafka's brokers; none where events are followed in MongoDB.  ClusterError without Java."""
    shop = cluster.shop
    if shop is None or not shop.kafka:
        return []
    if files.kafka_jars is None:
        raise PlatformError("this shop has Kafka's brokers, and nobody said where its programs are")
    passwords = broker_passwords(Secrets(files.state / "secrets"))
    tls = files.state / "tls" if cluster.tls.spoken else None
    made = []
    for broker in shop.kafka:
        file = files.configuration(f"{broker.name}.properties")
        text = brokers.settings(shop, broker.name, files.data(broker.name), passwords, tls)
        made.append(_process(broker, files, brokers.invocation(files.kafka_jars, file), file, text, data=True))
    return made


def format_brokers(idle: Sequence[Process], files: ShopFiles, deadline: Deadline) -> None:
    """Format the folders of brokers that never ran.  ClusterError."""
    if idle and files.kafka_jars:
        for process in idle:
            write_configuration(process)
        brokers.format_folders(idle, files.kafka_jars, files.folder / "data" / "kafka-cluster-id", deadline)


def mail_process(shop: Shop, files: ShopFiles) -> Process:
    """The mail server."""
    if shop.mail is None:
        raise ValueError("this shop has no mail server")
    name = shop.mail.name
    file = files.configuration(f"{name}.json")
    command = (sys.executable, "-m", "shardmart.shop", "mail-server", "--config", str(file))
    text = mail_configuration(shop, Secrets(files.state / "secrets"), files.data(name))
    return _process(shop.mail, files, command, file, text)


def service_processes(cluster: Cluster, files: ShopFiles) -> list[Process]:
    """Every instance of every service: the provider first, because the payment service asks it, the console last."""
    shop = cluster.shop
    if shop is None:
        return []
    order = sorted(shop.services, key=lambda one: {"provider": 0, "console": 2}.get(one.name, 1))
    return [_instance(service.name, instance, cluster, files) for service in order for instance in service.instances]


def _instance(service: str, instance: Instance, cluster: Cluster, files: ShopFiles) -> Process:
    file = files.configuration(f"{instance.name}.json")
    command = (
        sys.executable, "-m", "shardmart.shop", "run", service,
        "--config", str(file),
        "--host", instance.host,
        "--port", str(instance.port),
        "--instance", instance.name,
    )  # fmt: skip
    text = settings(service, cluster, files.state, data=files.data(instance.name))
    return _process(instance, files, command, file, text, data=service == "provider")


def load_balancer_process(shop: Shop, files: ShopFiles, program: str) -> Process:
    """Envoy.  Its start-up file is the process's configuration; what it watches is `load_balancer_files`."""
    if shop.load_balancer is None:
        raise ValueError("this shop has no load balancer")
    folder = files.configuration(shop.load_balancer.name)
    file = folder / envoy.BOOTSTRAP
    command = (
        program, "--config-path", str(file),
        "--disable-hot-restart",  # or a second one on this machine would meet it in shared memory
        "--concurrency", "1",
        "--log-level", "warning",
    )  # fmt: skip
    return _process(
        shop.load_balancer, files, command, file, envoy.files(shop, folder, files.health_log)[envoy.BOOTSTRAP]
    )


def load_balancer_files(shop: Shop, files: ShopFiles) -> dict[Path, str]:
    """What Envoy watches: clusters before the listeners that name them."""
    if shop.load_balancer is None:
        return {}
    folder = files.configuration(shop.load_balancer.name)
    content = envoy.files(shop, folder, files.health_log)
    return {folder / name: content[name] for name in (envoy.CLUSTERS, envoy.LISTENERS)}


def left_over(names: Iterable[str], state: Path) -> list[Process]:
    """What runs in this state folder of a shop and is not among `names`, as it was started."""
    known = set(names)
    pid_files = sorted((state / FOLDER / "run").glob("*.pid"))
    recorded_ones = (recorded(pid_file) for pid_file in pid_files if pid_file.stem not in known)
    return [process for process in recorded_ones if process and process.running()]


def _process(
    one: Instance, files: ShopFiles, command: tuple[str, ...], file: Path, text: str, *, data: bool = False
) -> Process:
    return Process(
        name=one.name,
        command=command,
        host=one.host,
        port=one.port,
        marker=str(file),
        pid_file=files.pid(one.name),
        log_file=files.log(one.name),
        data_folder=files.data(one.name) if data else None,
        configuration_file=file,
        configuration=text,
        environment=ENVIRONMENT,
    )
