"""`make shop` with its store under Patroni: orders are confirmed, the leader may be killed, paused or cut off, a second
run changes nothing, and down and up keep every order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shardmart.cluster.observe import patroni as observe
from shardmart.platforms import patroni
from shardmart.platforms.state import State
from tests.integration.shop.store.test_postgresql_site import must_be_clean, must_survive
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared, must_confirm_an_order

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    # The nodes and their Patronis, three and ten ports on; etcd's members between and behind them.
    document = declared("postgres_port", spare=15, store="postgres")
    first = document["backends"]["postgres_port"]
    document["backends"] |= {"postgres_nodes": 3, "etcd_port": first + 3, "postgres_entrance_port": first + 6}
    made.write(**document)
    with postgres_home("patroni"):
        yield made
        gone = made.play("playbooks/destroy.yml", "-e", "destroy_data=true")
        assert gone.code == 0, gone.output


def store_of(site: Site) -> patroni.Store:
    """Its servers."""
    shop = State(site.state).description().shop
    assert shop
    return patroni.Store.of(shop, site.state)


def orders_in(site: Site, store: patroni.Store) -> int:
    """How many orders the node that leads has, as one address leads to it."""
    shop = State(site.state).description().shop
    assert shop
    assert shop.postgres_entrance
    with psycopg.connect(
        host=shop.postgres_entrance.host, port=shop.postgres_entrance.port, user="postgres",
        password=store.password("postgres"), dbname="shop", target_session_attrs="read-write",
    ) as connection:  # fmt: skip
        found = connection.execute("SELECT count(*) FROM orders").fetchone()
    assert found
    return int(found[0])


def test_the_shop_under_patroni_outlives_its_leader_and_keeps_what_it_took(site: Site, tmp_path: Path) -> None:
    first = site.must_converge_from_nothing()
    must_confirm_an_order(site)
    store = store_of(site)
    status = json.loads(site.shardmart("status", "--json").stdout)
    roles = sorted(node["role"] for node in status["shop"]["postgres_nodes"])
    assert (status["problems"], roles) == ([], ["leader", "quorum_standby", "quorum_standby"])
    secrets = {
        user: store.password(user) for user in ("postgres", "replicator", "rewinder", "shardmart", "patroni", "root")
    }
    assert [user for user, password in secrets.items() if password in first.output] == []
    assert {file.stat().st_mode & 0o777 for file in store.host.home.glob("shop-*/configuration.yml")} == {0o600}

    must_be_clean(site, tmp_path / "journal")
    before = orders_in(site, store)
    must_survive(site, "kill-store-leader")
    assert orders_in(site, store) > before
    must_survive(site, "pause-store-leader")
    must_survive(site, "partition-store-leader")
    taken = orders_in(site, store)

    down = site.play("playbooks/destroy.yml")
    assert down.code == 0, down.output
    assert [node.name for node in store.nodes if store.server(node).running()] == []
    assert [one.name for one in (*store.nodes, *store.etcd) if store.place(one).process().running()] == []
    back = site.play("site.yml")
    assert back.code == 0, back.output
    assert orders_in(site, store) == taken
    must_confirm_an_order(site)
    assert observe.leader(store.nodes)
