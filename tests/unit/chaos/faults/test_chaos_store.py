"""What is cut off when the shop's store is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardmart.chaos.faults.postgres import CutStore
from shardmart.chaos.packets.flows import Endpoint, Header
from shardmart.chaos.packets.injector import Injector, NetworkFault
from shardmart.chaos.targets import databases
from shardmart.chaos.targets.selectors import OUTSIDE, Targets
from shardmart.cluster.shop import Backends, Instance, Shop
from shardmart.platforms.state import State


def on_postgres(targets: Targets, **where: object) -> Targets:
    """The same cluster with a shop that has its store in PostgreSQL."""
    shop = replace(Shop((), Backends(store="postgres")), **where)  # type: ignore[arg-type]
    folder = targets.state.folder
    (folder / "cluster.json").write_text(replace(targets.cluster, shop=shop).dumps())
    return Targets(State(folder))


def cut(targets: Targets, name: str) -> tuple[Endpoint, ...]:
    """The endpoints of a fault on one server."""
    return CutStore(targets, [targets.server(name)], 10.0, {}).endpoints()


@pytest.fixture
def under_patroni(targets: Targets) -> Targets:
    nodes = [tuple(Instance(f"{name}{n}", "127.0.0.1", port + n) for n in (1, 2, 3))
             for name, port in (("shop-postgres-", 31700), ("shop-etcd-", 31730))]  # fmt: skip
    return on_postgres(targets, postgres_nodes=nodes[0], etcd=nodes[1])


def test_a_single_server_is_its_port_and_whatever_its_processes_open(targets: Targets) -> None:
    alone = on_postgres(targets, postgres=Instance("shop-postgres", "127.0.0.1", 31700))
    [server] = cut(alone, "shop-postgres")
    assert (server.name, server.port, server.children) == ("shop-postgres", 31700, True)
    folder = databases.store_process(alone.state, alone.server("shop-postgres")).folder
    assert server.pid_file == str(folder / "postmaster.pid")


def test_a_node_under_patroni_is_all_that_its_machine_would_have(under_patroni: Targets) -> None:
    ports: dict[str, set[int]] = {}
    for each in cut(under_patroni, "shop-postgres-1"):
        ports.setdefault(each.name, set()).add(each.port)
    assert ports == {f"shop-postgres-{n}": {31700 + n, 31710 + n, 31730 + n, 31740 + n} for n in (1, 2, 3)}
    etcd = [each for each in cut(under_patroni, "shop-postgres-1") if "shop-etcd-" in str(each.pid_file)]
    assert [each.name for each in etcd] == ["shop-postgres-1"] * 2 + ["shop-postgres-2"] * 2 + ["shop-postgres-3"] * 2


def test_nobody_reaches_it_and_the_others_reach_one_another(under_patroni: Targets) -> None:
    endpoints = cut(under_patroni, "shop-postgres-1")
    fault = NetworkFault(
        10, loss=1.0, direction="both", targets=("shop-postgres-1",), endpoints=endpoints,
        peers=(OUTSIDE, *(f"shop-postgres-{n}" for n in (1, 2, 3))),
    )  # fmt: skip
    injector = Injector(fault)

    def asked(port: int) -> tuple[bool, bool]:
        return injector.concerns(Header("127.0.0.1", "127.0.0.1", 40000, port, opens=False))

    assert [asked(each.port) for each in endpoints if each.name == "shop-postgres-1"] == ([(True, True)] * 4)
    assert [asked(each.port) for each in endpoints if each.name != "shop-postgres-1"] == ([(False, False)] * 8)
