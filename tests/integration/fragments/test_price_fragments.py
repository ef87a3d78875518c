"""Claims of the schema and of the price fragments: re-entrant, without a gap, pruned, aggregated where they lie."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from shardmart.errors import RefusedError, UnreachableError
from shardmart.fragments import connection as connections
from shardmart.fragments.configuration import ADMIN, APPLICATION, PEER
from shardmart.fragments.connection import Connection, administrator, application, connect, rows, scalar
from shardmart.fragments.money import BANDS
from shardmart.fragments.relational import plans, schema, seeding, verification
from shardmart.fragments.relational.seeding import insert_random_data
from shardmart.fragments.relational.shop import BETWEEN_PRICES
from shardmart.fragments.rows import Shop
from shardmart.loader.generation.dataset import Counts
from tests.support.region_nodes import REGIONS, RegionNodes, until

COUNTS = Counts(30, 3, 200)


class DiedError(Exception):
    """The seeding is no more."""


@pytest.fixture(scope="module")
def seeded(nodes: RegionNodes) -> RegionNodes:
    """Filled by a seeding that died in the middle, on its second node, and by the next one."""
    copy = seeding.copy

    def die(connection: Connection, table: str, *more: Any) -> None:
        if table == "shipments" and connection.info.port == nodes.node("EMEA").port:
            raise DiedError
        copy(connection, table, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeding, "copy", die)
        with pytest.raises(DiedError):
            insert_random_data(nodes.configuration, Shop(1, COUNTS, REGIONS))
    assert insert_random_data(nodes.configuration, Shop(1, COUNTS, REGIONS)).written["customer"] > 0
    return nodes


def test_a_second_apply_changes_nothing_and_a_lost_index_is_made_again(nodes: RegionNodes) -> None:
    assert nodes.apply() == []
    nodes.run("EMEA", "DROP INDEX customer_name_emea", "DROP TRIGGER vertical_fragments ON Shipments")
    there = schema.converge(nodes.configuration, nodes.node("EMEA"), check=True)
    assert there == ["EMEA: create trigger vertical_fragments", "EMEA: create index customer_name_emea"]
    assert nodes.apply() == there
    assert nodes.apply() == []


KEYS = {
    "Customer": "region, customer_id",
    "Customer_Region": "region, customer_id",
    "Orders": "order_id, order_sequence_id",
    "OrderItems": "order_id, order_sequence_id, product_id",
    "Payments": "payment_id",
    "Shipments": "shipment_id",
    "SHIPMENT_DETAILS_TABLE": "shipment_id",
    "CUSTOMER_DETAILS_TABLE": "shipment_id",
}
FRAGMENTS = {
    "Products_10_to_100": ("APJ", "FOR VALUES FROM (1000) TO (10100)"),
    "Products_101_to_250": ("EMEA", "FOR VALUES FROM (10100) TO (25100)"),
    "Products_251_to_500": ("LATAM", "FOR VALUES FROM (25100) TO (50100)"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_tables_keys_fragments_and_indexes_are_called_as_the_contract_says(nodes: RegionNodes, name: str) -> None:
    key = """SELECT string_agg(attname, ', ' ORDER BY array_position(conkey, attnum)) FROM pg_constraint
        JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY(conkey)
        WHERE conrelid = to_regclass(%s) AND contype = 'p'"""
    part = "SELECT pg_get_expr(relpartbound, oid), relkind::text FROM pg_class WHERE oid = to_regclass(%s)"
    with administrator(nodes.configuration, nodes.node(name)) as connection:
        assert scalar(connection, "SHOW server_version").startswith("18.")
        assert {table: scalar(connection, key, table) for table in KEYS} == KEYS
        assert rows(connection, part, "Products") == [(None, "p")]
        for fragment, (home, bounds) in FRAGMENTS.items():
            assert rows(connection, part, fragment) == [(bounds, "r" if home == name else "f")]
        named = "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'customer\\_name\\_%%' ORDER BY 1"
        found = [index for (index,) in rows(connection, named)]
        assert found == ["customer_name_", "customer_name_apj", "customer_name_emea", "customer_name_latam"]
        money = """SELECT DISTINCT data_type FROM information_schema.columns
            WHERE table_schema = 'public' AND column_name LIKE '%%\\_cents'"""
        assert {kind for (kind,) in rows(connection, money)} == {"integer", "bigint"}, "money is whole cents"


def test_servers_run_as_another_user_than_root_and_listen_on_loopback(nodes: RegionNodes) -> None:
    for server in nodes.servers.values():
        process = server.running()
        assert process
        assert process.uids().real != 0
        listening = {c.laddr.ip for c in process.net_connections(kind="tcp") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("user", [ADMIN, APPLICATION, PEER])
def test_nobody_comes_in_without_the_password(nodes: RegionNodes, user: str) -> None:
    node = nodes.node("APJ")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=node.host, port=node.port, user=user, dbname="postgres", password="wrong")
    with administrator(nodes.configuration, node) as connection:
        verifier = scalar(connection, "SELECT rolpassword FROM pg_authid WHERE rolname = %s", user)
    assert verifier.startswith("SCRAM-SHA-256$")


def test_the_application_may_neither_change_the_schema_nor_write_to_vertical_fragments(nodes: RegionNodes) -> None:
    with connect(nodes.configuration, nodes.node("APJ"), autocommit=True) as connection:
        for forbidden in (
            "DROP TABLE Shipments",
            "ALTER TABLE Customer_Region ADD COLUMN more text",
            "DELETE FROM SHIPMENT_DETAILS_TABLE",
            "TRUNCATE Customer_Region",
            "CREATE TABLE mine (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


def test_a_changed_password_is_repaired(nodes: RegionNodes) -> None:
    nodes.run("LATAM", "ALTER ROLE shop PASSWORD 'other'")
    with pytest.raises(UnreachableError, match="LATAM: the password is not accepted"):
        plans.explain(nodes.configuration, nodes.node("LATAM"), "SELECT 1")
    assert nodes.apply() == ["LATAM: change the password of role shop"]


def test_every_row_of_the_data_set_is_there_once_and_in_its_place(seeded: RegionNodes) -> None:
    shop = Shop(1, COUNTS, REGIONS)
    again = insert_random_data(seeded.configuration, shop)
    assert again.changes == []
    expected = sorted((row["product_id"], row["price_cents"]) for row in shop.products())
    for node in seeded.configuration.nodes:
        with administrator(seeded.configuration, node) as connection:
            assert rows(connection, "SELECT product_id, price_cents FROM Products ORDER BY 1") == expected
            by_table = "SELECT tableoid::regclass::text, min(price_cents), max(price_cents) FROM Products GROUP BY 1"
            placed = rows(connection, by_table)
    for table, low, high in placed:
        band = next(band for band in BANDS if band.table == table)
        assert (low >= band.low, high < band.high) == (True, True)
    assert verification.verify(seeded.configuration)[1] == []


def test_more_of_the_data_set_adds_only_what_is_missing(seeded: RegionNodes) -> None:
    bigger = insert_random_data(seeded.configuration, Shop(1, Counts(32, 4, 200), REGIONS))
    assert bigger.written["customer"] == 2
    assert 0 < bigger.written["orders"] <= 32 + 2 * 3
    assert insert_random_data(seeded.configuration, Shop(1, Counts(32, 4, 200), REGIONS)).changes == []


@pytest.mark.parametrize("name", REGIONS)
def test_a_query_that_names_a_price_touches_the_fragments_of_that_price_alone(seeded: RegionNodes, name: str) -> None:
    assert plans.unpruned(seeded.configuration, seeded.node(name)) == []


def test_the_shops_own_question_about_prices_asks_the_fragments_of_these_prices_alone(seeded: RegionNodes) -> None:
    with application(seeded.configuration, seeded.node("LATAM")) as connection:
        asked = {
            (low, high): plans.read(connection, BETWEEN_PRICES, low, high).tables
            for low, high in ((1_000, 10_100), (10_100, 10_101), (20_000, 30_000), (60_000, 70_000))
        }
    assert asked == {
        (1_000, 10_100): {"products_10_to_100"},
        (10_100, 10_101): {"products_101_to_250"},
        (20_000, 30_000): {"products_101_to_250", "products_251_to_500"},
        (60_000, 70_000): set(),
    }


A_SHIPMENT = "SELECT shipment_id, city FROM Shipments_Reconstructed ORDER BY 1 LIMIT 1"


def test_the_vertical_fragments_change_in_the_transaction_of_the_original_and_come_back_with_it(
    seeded: RegionNodes,
) -> None:
    with connect(seeded.configuration, seeded.node("APJ")) as connection:
        [(shipment, city)] = rows(connection, A_SHIPMENT)
        changed = connection.execute("UPDATE Shipments SET city = 'Elsewhere' WHERE shipment_id = %s", (shipment,))
        assert changed.rowcount == 1
        assert rows(connection, A_SHIPMENT) == [(shipment, "Elsewhere")]
        connection.rollback()
        assert rows(connection, A_SHIPMENT) == [(shipment, city)]


@pytest.mark.parametrize(
    ("spoiled", "exceptions"),
    [
        ("UPDATE CUSTOMER_DETAILS_TABLE SET city = 'Elsewhere' WHERE shipment_id = '{}'", 2),
        ("DELETE FROM SHIPMENT_DETAILS_TABLE WHERE shipment_id = '{}'", 1),
    ],
    ids=["another value", "a missing row"],
)
def test_a_join_that_is_not_the_original_is_found_by_verify(seeded: RegionNodes, spoiled: str, exceptions: int) -> None:
    with administrator(seeded.configuration, seeded.node("APJ")) as connection:
        [(shipment, _)] = rows(connection, A_SHIPMENT)
    seeded.run("APJ", spoiled.format(shipment))
    try:
        [wrong] = verification.verify(seeded.configuration)[1]
        assert wrong.startswith("not so: APJ: the join of both vertical fragments is Shipments")
        assert wrong.endswith(f"{exceptions} exceptions, such as {', '.join([shipment] * exceptions)}")
    finally:
        # Whoever touches the original has both made anew.
        seeded.run("APJ", f"UPDATE Shipments SET carrier = carrier WHERE shipment_id = '{shipment}'")
    assert verification.verify(seeded.configuration)[1] == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1; DELETE FROM Products_10_to_100",
        "SELECT 1; COMMIT; DELETE FROM Products_10_to_100",
        "SELECT * FROM Products_10_to_100 FOR UPDATE",
    ],
)
def test_explain_changes_nothing_whatever_it_is_given(seeded: RegionNodes, query: str) -> None:
    with pytest.raises(RefusedError):
        plans.explain(seeded.configuration, seeded.node("APJ"), query, run=True)
    with application(seeded.configuration, seeded.node("APJ")) as connection:
        assert scalar(connection, "SELECT count(*) FROM Products_10_to_100") > 0


def test_each_node_aggregates_its_own_fragment(seeded: RegionNodes) -> None:
    here = seeded.node("APJ")
    reading = plans.explain(seeded.configuration, here, plans.STOCK_BY_BAND)
    sent = sorted(statement for statement in reading.remote)
    assert len(sent) == 2
    for statement in sent:
        assert "GROUP BY" in statement
        assert "count(*)" in statement


@pytest.mark.parametrize("price", [999, 50_100, 0, 60_000])
@pytest.mark.parametrize("name", REGIONS)
def test_the_nodes_themselves_refuse_a_price_without_a_fragment(nodes: RegionNodes, name: str, price: int) -> None:
    refused = pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation")
    with connect(nodes.configuration, nodes.node(name), autocommit=True) as connection, refused:
        connection.execute("INSERT INTO Products VALUES ('x', 'Kettle', 'Home', %s, 1)", (price,))


def test_a_foreign_fragment_refuses_a_row_of_another_band(seeded: RegionNodes) -> None:
    """Without the remote check the row would stay, and pruning would hide it."""
    with connect(seeded.configuration, seeded.node("APJ"), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO Products_101_to_250 VALUES ('x', 'Kettle', 'Home', 5000, 1)")
        product = scalar(connection, "SELECT min(product_id) FROM Products_101_to_250")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE Products SET price_cents = 30000 WHERE product_id = %s", (product,))


def test_postgres_fdw_refuses_to_prepare(nodes: RegionNodes) -> None:
    """Why the coordinator talks to the nodes itself."""
    with connect(nodes.configuration, nodes.node("APJ"), autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO Products VALUES ('two-phase', 'Kettle', 'Home', 12000, 1)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="postgres_fdw"):
            connection.execute("PREPARE TRANSACTION 'through-fdw'")


def waits_for_a_lock(nodes: RegionNodes, name: str) -> bool:
    with administrator(nodes.configuration, nodes.node(name)) as connection:
        return bool(scalar(connection, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


def test_the_catch_all_can_be_switched_on(nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOCK_SECONDS", 60)
    text = nodes.file.read_text()
    nodes.file.write_text(text.replace('"version": 1', '"version": 1, "catch_all": true'))
    try:
        assert {line.split(": ")[1] for line in nodes.apply()} >= {"create table products_other"}
        with connect(nodes.configuration, nodes.node("LATAM"), autocommit=True) as connection:
            connection.execute("INSERT INTO Products VALUES ('dear', 'Piano', 'Home', 900000, 1)")
            held = scalar(connection, "SELECT tableoid::regclass::text FROM Products WHERE product_id = 'dear'")
            assert held == "products_other"
    finally:
        nodes.file.write_text(text)
    with pytest.raises(RefusedError, match="products_other holds 1 products"):
        nodes.apply()
    # Also one that is being written while it is looked for.
    with connect(nodes.configuration, nodes.node("APJ")) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("DELETE FROM Products WHERE product_id = 'dear'")
        connection.execute("INSERT INTO Products VALUES ('dearer', 'Organ', 'Home', 990000, 1)")
        applied = pool.submit(nodes.apply)
        until("the removal to wait for the writer", lambda: waits_for_a_lock(nodes, "APJ"))
        connection.commit()
        with pytest.raises(RefusedError, match="products_other holds 1 products"):
            applied.result(60)
        connection.execute("DELETE FROM Products WHERE product_id = 'dearer'")
    assert {line.split(": ")[1] for line in nodes.apply()} == {"drop table products_other, it is empty"}
    assert nodes.apply() == []
