"""Which processes the shop is, how each is started, and in what order they are kept.

Everything lies in the folder `shop` of the state folder: configuration, data, logs, pid files.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...cluster.description import Cluster
from ...cluster.errors import ClusterError
from ...cluster.host.processes import Process, recorded, write_configuration
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import Instance, Shop
from ..embedded_kafka import brokers
from ..platform import PlatformError
from . import cache_tls, envoy
from .configuration import Secrets, broker_passwords, cache_configuration, mail_configuration, settings
from .files import FOLDER, ShopFiles

ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}
"""glibc's default of eight arenas a core costs an instance some 15 MB for nothing."""


LONGEST_SOCKET = 107
"""Bytes of a socket's path (unix(7))."""


def cache_processes(shop: Shop, files: ShopFiles, program: str) -> list[Process]:
    """The cache server, or the nodes of its cluster.  ClusterError where the path of a socket is too long."""
    made, secrets = [], Secrets(files.state / "secrets")
    for node in shop.caches:
        file, socket = files.configuration(f"{node.name}.conf"), files.socket(node.name) if shop.cache_tls else None
        if socket and len(str(socket).encode()) > LONGEST_SOCKET:
            raise ClusterError(
                f"{socket}: a socket's path has at most {LONGEST_SOCKET} bytes: name a folder with a shorter path with "
                "SHARDMART_STATE, or say `backends: {tls: false}`"
            )
        text = cache_configuration(node, shop, secrets, files.data(node.name), socket)
        process = _process(node, files, (program, str(file)), file, text, data=True)
        made.append(replace(process, unix_socket=socket))
    return made


def cache_tls_process(shop: Shop, files: ShopFiles, program: str) -> Process:
    """The Envoy in front of the cache.  PlatformError where there is no certificate."""
    if shop.cache_tls is None:
        raise ValueError("this shop's cache speaks no TLS")
    _certificate(files)
    file = files.configuration(shop.cache_tls.name) / cache_tls.BOOTSTRAP
    text = _of_cache_tls(shop, files)[cache_tls.BOOTSTRAP]
    return _process(shop.cache_tls, files, _envoy(program, file), file, text)


def _certificate(files: ShopFiles) -> bytes:
    """PlatformError where there is none."""
    file = files.certificates / "server.pem"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise PlatformError(
            f"{file} is missing: the cluster's playbook makes it (`make up`, with the topology that it has)"
        ) from None


def cache_tls_files(shop: Shop, files: ShopFiles) -> dict[Path, str]:
    """What that Envoy watches."""
    if shop.cache_tls is None:
        return {}
    name = cache_tls.CERTIFICATE
    return {files.configuration(shop.cache_tls.name) / name: _of_cache_tls(shop, files)[name]}


def _of_cache_tls(shop: Shop, files: ShopFiles) -> dict[str, str]:
    folder = files.configuration(shop.cache_tls.name if shop.cache_tls else "")
    return cache_tls.files(shop.caches, files.socket, folder, files.certificates)


def broker_processes(cluster: Cluster, files: ShopFiles) -> list[Process]:
    """Kafka's brokers; none where events are followed in MongoDB.  ClusterError without Java."""
    shop = cluster.shop
    if shop is None or not shop.kafka:
        return []
    if files.kafka_jars is None:
        raise PlatformError("this shop has Kafka's brokers, and nobody said where its programs are")
    passwords = broker_passwords(Secrets(files.state / "secrets"))
    tls = files.state / "tls" if cluster.tls.spoken else None
    # A broker reads its certificate at its start and never again: a renewed one is a changed configuration.
    read = f"# With the certificate {hashlib.sha256(_certificate(files)).hexdigest()}\n" if tls else ""
    made = []
    for broker in shop.kafka:
        file = files.configuration(f"{broker.name}.properties")
        text = brokers.settings(shop, broker.name, files.data(broker.name), passwords, tls) + read
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
    text = envoy.files(shop, folder, files.health_log)[envoy.BOOTSTRAP]
    return _process(shop.load_balancer, files, _envoy(program, file), file, text)


def _envoy(program: str, file: Path) -> tuple[str, ...]:
    return (
        program, "--config-path", str(file),
        "--disable-hot-restart",  # or a second one on this machine would meet it in shared memory
        "--concurrency", "1",
        "--log-level", "warning",
    )  # fmt: skip


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
