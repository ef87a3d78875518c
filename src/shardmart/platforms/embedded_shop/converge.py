"""The shop's processes, brought to what is declared: started, restarted one by one, taken over, stopped.

The `shop_processes` Ansible module calls it for each part in turn: cache, services, load balancer.  Each function says
what it did, or in check mode what it would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...cluster.description import Cluster
from ...cluster.errors import ClusterError
from ...cluster.host import processes
from ...cluster.host.files import write_whole
from ...cluster.host.processes import Process
from ...cluster.observe.shop import ask, wait_until_ready
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import Instance, Shop
from ..platform import PlatformError
from . import cache_cluster, envoy, programs
from .configuration import CACHE_CLUSTER, Secrets, settings
from .files import ShopFiles
from .processes import (
    broker_processes,
    cache_processes,
    cache_tls_files,
    cache_tls_process,
    format_brokers,
    left_over,
    load_balancer_files,
    load_balancer_process,
    mail_process,
    service_processes,
)

STORE, CACHE, EVENT_LOG, SERVICES, LOAD_BALANCER = PARTS = ("store", "cache", "event_log", "services", "load_balancer")
WATCHED = {CACHE: cache_tls_files, LOAD_BALANCER: load_balancer_files}
"""What an Envoy of a part takes over without a restart."""


def started(
    part: str,
    cluster: Cluster,
    state: Path,
    deadline: Deadline,
    *,
    kafka_jars: Path | None = None,
    check_mode: bool = False,
) -> list[str]:
    """Have one part run as declared.  ClusterError, DeadlineError or PlatformError, each in a line."""
    shop, files = cluster.shop, ShopFiles(state, kafka_jars)
    if part == STORE:
        return _store_settings(cluster, files, check_mode=check_mode)
    leaving = [one for one in left_over(_names(shop), state) if part_of(one.name) == part]
    changes = [f"stop {process.name}: the topology has it no more" for process in leaving]
    if shop is not None:
        changes += _converged(part, cluster, shop, files, deadline, check_mode=check_mode)
    if not check_mode:
        # Last: the load balancer knows by then that they go, and they finish what they have in hand.
        processes.stop(leaving, wait_seconds=deadline.remaining)
    return changes


def stopped(part: str, state: Path, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Have nothing of one part run, whichever topology started it."""
    running = [one for one in left_over((), state) if part_of(one.name) == part]
    if not check_mode:
        processes.stop(running, wait_seconds=deadline.remaining)
    return [f"stop {process.name}" for process in running]


def refuse_switched_tls(before: Cluster, after: Cluster, state: Path) -> None:
    """ClusterError when PostgreSQL and the cache of a shop that runs would have to begin or end to speak TLS.

    Services with the old settings would lose both until each is restarted.
    """
    shops = [shop for shop in (before.shop, after.shop) if shop and (shop.caches or shop.postgres_servers)]
    if len(shops) < 2 or shops[0].backends.tls == shops[1].backends.tls:
        return
    if running := left_over((), state):
        spoken = shops[0].backends.tls
        instead = "" if spoken else ", or say `backends: {tls: false}`"
        raise ClusterError(
            f"backends.tls: {running[0].name} runs, of a shop {'with' if spoken else 'without'} TLS to PostgreSQL and "
            f"the cache, and all must change together: stop them first (playbooks/destroy.yml keeps the data){instead}"
        )


def restart(process: Process, shop: Shop, state: Path, deadline: Deadline) -> None:
    """Restart one process as it is, and wait until it serves again: what a rolling update does to each in turn."""
    _restart(process, {one.name: one for one in shop.instances}.get(process.name), ShopFiles(state), deadline)


def part_of(name: str) -> str:
    """The part that a process of this name belongs to; the mail server to the services, one of which sends to it."""
    parts = {"cache": CACHE, "tls-cache": CACHE, "kafka": EVENT_LOG, "load-balancer": LOAD_BALANCER}
    return parts.get(name.rpartition("-")[0], SERVICES)


def _names(shop: Shop | None) -> list[str]:
    return [one.name for one in shop.processes] if shop else []


def _converged(
    part: str, cluster: Cluster, shop: Shop, files: ShopFiles, deadline: Deadline, *, check_mode: bool
) -> list[str]:
    try:
        declared = _declared(part, cluster, shop, files)
    except PlatformError as error:
        if check_mode:  # on an empty machine the secrets are made by the tasks before
            return [f"start the {part.replace('_', ' ')}"]
        raise ClusterError(str(error)) from None
    live = {process.name for process in declared if process.running()}
    idle = [process for process in declared if process.name not in live]
    outdated = [process for process in declared if process.name in live and process.configuration_change()]
    changes = [f"start {process.name}" for process in idle]
    changes += [f"restart {process.name}: its configuration changed" for process in outdated]
    watched = WATCHED[part](shop, files) if part in WATCHED else {}
    new = {file: text for file, text in watched.items() if not file.exists() or file.read_text() != text}
    changes += [f"{file.parent.name} takes over its {file.stem}" for file in new if not idle]
    if check_mode:
        return changes + (_formed(shop, files, deadline, check_mode=True) if part == CACHE and not idle else [])
    files.make()
    for file, text in new.items():
        file.parent.mkdir(exist_ok=True, mode=0o700)
        write_whole(file, text)
    if part == EVENT_LOG:
        format_brokers(idle, files, deadline)
    begun = processes.start(idle)
    processes.wait_until_listening(begun, deadline)
    instances = {one.name: one for one in shop.instances}
    if part == SERVICES:
        wait_until_ready([instances[process.name] for process in idle if process.name in instances], deadline)
    for process in outdated:
        _restart(process, instances.get(process.name), files, deadline)
    if part == CACHE:
        changes += _formed(shop, files, deadline)
    if part == LOAD_BALANCER:
        _wait_until_served(shop, deadline)
    for process in declared:
        processes.remember(process)
    return changes


def _formed(shop: Shop, files: ShopFiles, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    if not shop.cache_nodes:
        return []
    password, replicas = Secrets(files.state / "secrets").get(CACHE_CLUSTER), shop.backends.cache_replicas
    authority = files.certificates / "ca.pem" if shop.cache_tls else None
    return cache_cluster.form(
        shop.cache_nodes, replicas, password, deadline, authority=authority, check_mode=check_mode
    )


def _store_settings(cluster: Cluster, files: ShopFiles, *, check_mode: bool) -> list[str]:
    """Have the file that `shardmart shop migrate` reads, where the store is not in the cluster.

    It is the order service's: that one may read the products and customers there are.
    """
    file = files.configuration("store.json")
    if cluster.shop is None or cluster.shop.backends.store == "mongodb":
        return []
    try:
        text = settings("order", cluster, files.state, data=files.data("order"))
    except PlatformError as error:
        if check_mode:
            return [f"write {file.name}"]
        raise ClusterError(str(error)) from None
    if file.exists() and file.read_text() == text:
        return []
    if not check_mode:
        files.make()
        write_whole(file, text)
    return [f"write {file.name}"]


def _declared(part: str, cluster: Cluster, shop: Shop, files: ShopFiles) -> Sequence[Process]:
    if part == SERVICES:
        return [*([mail_process(shop, files)] if shop.mail else []), *service_processes(cluster, files)]
    if part == EVENT_LOG:
        return broker_processes(cluster, files)
    if part == CACHE:
        servers = cache_processes(shop, files, programs.cache_server()) if shop.caches else []
        return servers + ([cache_tls_process(shop, files, programs.envoy())] if shop.cache_tls else [])
    return [load_balancer_process(shop, files, programs.envoy())] if shop.load_balancer else []


def _restart(process: Process, instance: Instance | None, files: ShopFiles, deadline: Deadline) -> None:
    """Restart one, and wait until it serves and the load balancer sends it requests again."""
    processes.stop([process], wait_seconds=deadline.remaining)
    processes.wait_until_listening(processes.start([process]), deadline)
    if instance is None:
        return
    wait_until_ready([instance], deadline)
    while (instance.host, instance.port) in envoy.taken_out(files.health_log):
        deadline.pause(f"the load balancer to send requests to {process.name} again; see {files.health_log}")


def _wait_until_served(shop: Shop, deadline: Deadline) -> None:
    """Wait until each service answers where callers find it."""
    for service in shop.services:
        while not (health := ask(service.host, service.port)).ready:
            deadline.pause(f"{service.name} to be served at {service.url}: {health.reason}")
