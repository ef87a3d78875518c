"""Claims of the coordinator: over two nodes all or nothing, whenever it or a node dies, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shardmart.errors import RefusedError, UnreachableError
from shardmart.fragments import connection as connections
from shardmart.fragments.connection import Connection, UnknownOutcomeError, administrator, rows, scalar
from shardmart.fragments.relational import coordinator, verification
from shardmart.fragments.relational.shop import RelationalShop
from tests.support.region_nodes import RegionNodes, until

VICTIM = Path(__file__).with_name("coordinator_victim.py")
STEPS = {
    "begun": "abort",
    "guarded": "abort",
    "worked:APJ": "abort",
    "worked:LATAM": "abort",
    "prepared:APJ": "abort",
    "prepared:LATAM": "abort",
    "decided": "commit",
    "committed:LATAM": "commit",
    "committed:APJ": "commit",
    "forgotten": "commit",
}
"""Every step, and what has become of the transaction when the coordinator dies right after it."""


WITHOUT_GUARD = {step: what for step, what in STEPS.items() if step != "guarded"}


def killed_after(nodes: RegionNodes, step: str, operation: str, *arguments: object) -> None:
    command = [sys.executable, str(VICTIM), str(nodes.file), step, operation, json.dumps(arguments)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def left(nodes: RegionNodes) -> dict[str, list[str]]:
    """What coordinators left on the nodes: prepared transactions and rows of the log."""
    found = {}
    for node in nodes.configuration.nodes:
        with administrator(nodes.configuration, node) as connection:
            query = "SELECT gid FROM pg_prepared_xacts UNION ALL SELECT gid FROM Coordinator_Log"
            if gids := [gid for (gid,) in rows(connection, query)]:
                found[node.name] = gids
    return found


def held(nodes: RegionNodes, product: str) -> dict[str, int]:
    """The fragments that have a product, read on their own nodes, and its price there."""
    found = {}
    for band in nodes.configuration.bands:
        with administrator(nodes.configuration, nodes.node(band.region)) as connection:
            for (price,) in rows(connection, f"SELECT price_cents FROM {band.table} WHERE product_id = %s", product):
                found[band.fragment] = price
    return found


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_product_is_in_exactly_one_fragment(nodes: RegionNodes, step: str) -> None:
    product = f"victim-{step}"
    shop = RelationalShop(nodes.configuration)
    shop.create_product(product, "Kettle", "Home", "20.00", 3)
    killed_after(nodes, step, "change_price", product, "300.00")
    recovered = coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert recovered.in_doubt == {}
    moved = STEPS[step] == "commit"
    assert held(nodes, product) == ({"Products_251_to_500": 30_000} if moved else {"Products_10_to_100": 2_000})
    assert left(nodes) == {}
    assert coordinator.recover(nodes.configuration, abandoned_seconds=0).changes == [], "nothing is left to do"
    shop.delete_product(product)
    assert verification.verify(nodes.configuration)[1] == []


def test_recovery_leaves_a_transaction_that_is_at_work_alone(nodes: RegionNodes) -> None:
    seen: list[coordinator.Recovered] = []

    def observe(step: str) -> None:
        if step == "prepared:LATAM":
            seen.append(coordinator.recover(nodes.configuration))

    shop = RelationalShop(nodes.configuration, observe)
    shop.create_product("at-work", "Kettle", "Home", "20.00", 3)
    shop.change_price("at-work", "300.00")
    assert (seen[0].changes, len(seen[0].in_doubt)) == ([], 1)
    assert held(nodes, "at-work") == {"Products_251_to_500": 30_000}
    assert left(nodes) == {}


@pytest.mark.parametrize("step", ["begun", "prepared:APJ", "prepared:LATAM"])
def test_a_coordinator_that_was_given_up_aborts_everywhere(nodes: RegionNodes, step: str) -> None:
    """It lives on after the recovery took it for dead: the decision that came first holds."""

    def observe(reached: str) -> None:
        if reached == step:
            coordinator.recover(nodes.configuration, abandoned_seconds=0)

    product = f"given-up-{step}"
    RelationalShop(nodes.configuration).create_product(product, "Kettle", "Home", "20.00", 3)
    with pytest.raises(RefusedError, match="nothing was changed"):
        RelationalShop(nodes.configuration, observe).change_price(product, "300.00")
    coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert held(nodes, product) == {"Products_10_to_100": 2_000}
    assert left(nodes) == {}


def test_a_recovery_between_decision_and_commit_finishes_it(nodes: RegionNodes) -> None:
    def observe(step: str) -> None:
        if step == "decided":
            coordinator.recover(nodes.configuration, abandoned_seconds=0)

    RelationalShop(nodes.configuration).create_product("quick", "Kettle", "Home", "20.00", 3)
    RelationalShop(nodes.configuration, observe).change_price("quick", "300.00")
    assert held(nodes, "quick") == {"Products_251_to_500": 30_000}
    assert left(nodes) == {}


def test_a_node_that_dies_after_the_decision_has_the_change_when_it_is_back(nodes: RegionNodes) -> None:
    def observe(step: str) -> None:
        if step == "decided":
            nodes.kill("LATAM")

    RelationalShop(nodes.configuration).create_product("late", "Kettle", "Home", "20.00", 3)
    RelationalShop(nodes.configuration, observe).change_price("late", "300.00")
    waiting = coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert list(left_on(nodes, "APJ")), "the decision is kept while a participant has not heard it"
    assert not [line for line in waiting.changes if "finished" in line]
    nodes.start()
    coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert held(nodes, "late") == {"Products_251_to_500": 30_000}
    assert left(nodes) == {}


def left_on(nodes: RegionNodes, name: str) -> list[str]:
    with administrator(nodes.configuration, nodes.node(name)) as connection:
        return [gid for (gid,) in rows(connection, "SELECT gid FROM Coordinator_Log")]


def test_a_prepared_transaction_is_in_doubt_while_its_home_is_away(nodes: RegionNodes) -> None:
    RelationalShop(nodes.configuration).create_product("doubt", "Kettle", "Home", "20.00", 3)
    killed_after(nodes, "prepared:LATAM", "change_price", "doubt", "300.00")
    nodes.kill("APJ")
    away = coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert [why for why in away.in_doubt.values() if "its coordinator's log is on APJ, which is away" in why]
    nodes.start()
    assert coordinator.recover(nodes.configuration, abandoned_seconds=0).in_doubt == {}
    assert held(nodes, "doubt") == {"Products_10_to_100": 2_000}
    assert left(nodes) == {}


def test_a_refusal_on_one_node_undoes_the_other(nodes: RegionNodes) -> None:
    def write(connection: Connection) -> None:
        connection.execute("INSERT INTO Products_10_to_100 VALUES ('refused', 'Kettle', 'Home', 2000, 1)")

    def fail(connection: Connection) -> None:
        connection.execute("INSERT INTO Products_251_to_500 VALUES ('refused', 'Kettle', 'Home', 2000, 1)")

    with pytest.raises(RefusedError, match=r"LATAM: .*violates"):
        coordinator.commit(nodes.configuration, [("APJ", write), ("LATAM", fail)])
    assert held(nodes, "refused") == {}
    assert left(nodes) == {}


def test_nothing_begins_while_a_participant_is_away(nodes: RegionNodes) -> None:
    nodes.kill("LATAM")
    try:
        with pytest.raises(UnreachableError, match="LATAM"):
            coordinator.commit(nodes.configuration, [("APJ", lambda c: None), ("LATAM", lambda c: None)])
    finally:
        nodes.start()
    assert left(nodes) == {}
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        assert scalar(connection, "SELECT count(*) FROM pg_prepared_xacts") == 0


class DiedError(Exception):
    """The coordinator is no more."""


@pytest.mark.parametrize("step", ["decided", "committed:EMEA"])
def test_who_creates_a_product_that_a_dead_coordinator_created_is_refused_also_in_another_band(
    nodes: RegionNodes, step: str
) -> None:
    """The fragment's node may not have it yet: the lock on the home is what the other one sees."""
    product = f"twin-{step}"

    def die(reached: str) -> None:
        if reached == step:
            raise DiedError

    with pytest.raises(DiedError):
        RelationalShop(nodes.configuration, die).create_product(product, "Kettle", "Home", "120.00", 1)
    other = RelationalShop(nodes.configuration)
    with pytest.raises(RefusedError, match=f"product '{product}' was changed by somebody else at the same time"):
        other.create_product(product, "Kettle", "Home", "300.00", 1)
    assert coordinator.recover(nodes.configuration, abandoned_seconds=0).in_doubt == {}
    with pytest.raises(RefusedError, match=f"product '{product}' is there already"):
        other.create_product(product, "Kettle", "Home", "300.00", 1)
    assert held(nodes, product) == {"Products_101_to_250": 12_000}
    assert left(nodes) == {}


def test_a_product_is_locked_until_the_node_that_died_has_it(nodes: RegionNodes) -> None:
    def observe(step: str) -> None:
        if step == "decided":
            nodes.kill("EMEA")

    RelationalShop(nodes.configuration, observe).create_product("locked", "Kettle", "Home", "120.00", 1)
    try:
        waiting = coordinator.recover(nodes.configuration, abandoned_seconds=0)
        assert [why for why in waiting.in_doubt.values() if "kept on APJ until EMEA has it" in why]
    finally:
        nodes.start()
    other = RelationalShop(nodes.configuration)
    with pytest.raises(RefusedError, match="product 'locked' was changed by somebody else"):
        other.create_product("locked", "Kettle", "Home", "300.00", 1)
    assert coordinator.recover(nodes.configuration, abandoned_seconds=0).in_doubt == {}
    assert held(nodes, "locked") == {"Products_101_to_250": 12_000}
    assert left(nodes) == {}


def test_of_two_prices_that_are_given_at_once_one_is_refused_by_name(nodes: RegionNodes) -> None:
    shop = RelationalShop(nodes.configuration)
    shop.create_product("pulled", "Kettle", "Home", "20.00", 1)

    def meanwhile(step: str) -> None:
        if step == "prepared:LATAM":
            with pytest.raises(RefusedError, match="product 'pulled' was changed by somebody else"):
                shop.change_price("pulled", "120.00")
            with pytest.raises(RefusedError, match="product 'pulled' was changed by somebody else"):
                shop.create_product("pulled", "Kettle", "Home", "120.00", 1)

    RelationalShop(nodes.configuration, meanwhile).change_price("pulled", "300.00")
    assert held(nodes, "pulled") == {"Products_251_to_500": 30_000}
    assert left(nodes) == {}


def person(nodes: RegionNodes, region: str, key: str) -> None:
    address = {"street": "Main 1", "postcode": "1000", "city": "Rome", "country": "IT"}
    row = {"region": region, "customer_id": key, "customer_name": "Ada", "email": "ada@example.com"} | address
    RelationalShop(nodes.configuration).create_customer(row | {"created_at": datetime(2026, 1, 2, tzinfo=UTC)})


def recovered(nodes: RegionNodes) -> None:
    assert coordinator.recover(nodes.configuration, abandoned_seconds=0).in_doubt == {}
    assert left(nodes) == {}
    assert verification.verify(nodes.configuration)[1] == []


def orders(nodes: RegionNodes, region: str, customer: str) -> list[str]:
    with administrator(nodes.configuration, nodes.node(region)) as connection:
        return [order for (order,) in rows(connection, "SELECT order_id FROM Orders WHERE customer_id = %s", customer)]


@pytest.mark.full
@pytest.mark.parametrize("step", WITHOUT_GUARD)
def test_an_order_whose_coordinator_was_killed_is_whole_or_nowhere(nodes: RegionNodes, step: str) -> None:
    shop, buyer = RelationalShop(nodes.configuration), f"buyer-{step}"
    person(nodes, "APJ", buyer)
    items = {f"near-{step}": 1, f"far-{step}": 2}
    for product, price in zip(items, ("20.00", "300.00"), strict=True):
        shop.create_product(product, "Kettle", "Home", price, 3)
    killed_after(nodes, step, "place_order", "APJ", buyer, items)
    recovered(nodes)
    placed = WITHOUT_GUARD[step] == "commit"
    assert [(shop.product(product) or {})["stock"] for product in items] == ([2, 1] if placed else [3, 3])
    assert len(orders(nodes, "APJ", buyer)) == placed


@pytest.mark.full
@pytest.mark.parametrize("step", WITHOUT_GUARD)
def test_a_customer_whose_move_was_killed_is_in_one_region_with_all_that_is_his(nodes: RegionNodes, step: str) -> None:
    shop, mover = RelationalShop(nodes.configuration), f"mover-{step}"
    person(nodes, "APJ", mover)
    shop.create_product(f"souvenir-{step}", "Kettle", "Home", "20.00", 3)
    order = shop.place_order("APJ", mover, {f"souvenir-{step}": 1})["order_id"]
    killed_after(nodes, step, "move_customer", "APJ", mover, "LATAM")
    recovered(nodes)
    here, there = ("LATAM", "APJ") if WITHOUT_GUARD[step] == "commit" else ("APJ", "LATAM")
    assert (shop.customer(here, mover) or {})["region"] == here
    assert shop.customer(there, mover) is None
    assert (orders(nodes, here, mover), orders(nodes, there, mover)) == ([order], [])
    found = shop.order(here, order)
    assert found
    assert [len(found[part]) for part in ("items", "payments", "shipments")] == [1, 1, 1]


def waiting_for_a_lock(nodes: RegionNodes) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    for node in nodes.configuration.nodes:
        with administrator(nodes.configuration, node) as connection:
            if scalar(connection, query):
                return True
    return False


def test_two_orders_of_the_same_products_from_two_regions_never_wait_for_each_other(
    nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its first product when the other begins with its own: only one order of nodes for both lets both end."""
    monkeypatch.setattr(connections, "LOCK_SECONDS", 60)
    shop = RelationalShop(nodes.configuration)
    for product, price in (("here", "20.00"), ("there", "120.00")):
        shop.create_product(product, "Kettle", "Home", price, 2)
    buyers = {"APJ": {"there": 1, "here": 1}, "EMEA": {"here": 1, "there": 1}}
    begun: set[str] = set()

    def buy(region: str) -> None:
        def observe(step: str) -> None:
            if step.startswith("worked:") and region not in begun:
                begun.add(region)
                until("the other one to begin or to wait", lambda: len(begun) == 2 or waiting_for_a_lock(nodes))

        RelationalShop(nodes.configuration, observe).place_order(region, "buyer", buyers[region])

    for region in buyers:
        person(nodes, region, "buyer")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(buy, buyers))
    assert [(shop.product(product) or {})["stock"] for product in ("here", "there")] == [0, 0]
    assert left(nodes) == {}


def test_who_waits_for_the_locks_of_a_dead_coordinator_is_refused_and_not_kept(
    nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOCK_SECONDS", 1)

    def die(reached: str) -> None:
        if reached == "prepared:LATAM":
            raise KeyboardInterrupt

    shop = RelationalShop(nodes.configuration)
    shop.create_product("kept", "Kettle", "Home", "20.00", 3)
    monkeypatch.setattr(coordinator, "_abort", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        RelationalShop(nodes.configuration, die).change_price("kept", "300.00")
    with pytest.raises(RefusedError, match=r"APJ: another transaction holds .* `shardmart fragments recover`"):
        shop.change_price("kept", "21.00")
    coordinator.recover(nodes.configuration, abandoned_seconds=0)
    assert shop.change_price("kept", "21.00")["price_cents"] == 2_100


def test_a_connection_lost_while_it_commits_leaves_the_outcome_unknown(
    nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told "does not answer" tries again, and has two orders."""
    monkeypatch.setattr(connections, "LOCK_SECONDS", 60)
    person(nodes, "APJ", "unsure")
    RelationalShop(nodes.configuration).create_product("slow", "Kettle", "Home", "20.00", 3)
    hold = """CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'"""
    late = """CREATE CONSTRAINT TRIGGER late AFTER INSERT ON Orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION hold()"""
    nodes.run("APJ", hold, late)
    try:
        with administrator(nodes.configuration, nodes.node("APJ")) as connection, ThreadPoolExecutor(1) as pool:
            connection.execute("SELECT pg_advisory_lock(7)")
            buy = pool.submit(RelationalShop(nodes.configuration).place_order, "APJ", "unsure", {"slow": 1})
            until("the order to commit", lambda: waiting_for_a_lock(nodes))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            with pytest.raises(UnknownOutcomeError, match="APJ went away while it committed"):
                buy.result(60)
    finally:
        nodes.run("APJ", "DROP FUNCTION hold CASCADE")
