"""What ShardingSphere-Proxy 5.1.0 does not take of PostgreSQL, and what it answers otherwise: each would be noticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.shardingsphere.proxy import RunningProxy

pytestmark = pytest.mark.usefixtures("sharded")
NOW = datetime.now(UTC)
BY_MESSAGES = {
    "a parameter that is used twice": ("SELECT %(a)s::bigint AS one, %(a)s::bigint AS two", {"a": 1}, "parameter 2"),
    "a distribution column as text of no type": ("SELECT id FROM orders WHERE id = %s", ["x"], "Comparable"),
    "jsonb": ("UPDATE orders SET address = %s WHERE region = 'x'", [Jsonb({})], "'3802' in PostgreSQL column type"),
    "a time": ("SELECT id FROM commits WHERE at < %s", [NOW], "TYPE_TIMESTAMPTZ"),
    "a boolean": ("SELECT id FROM stock WHERE low = %s", [True], "TYPE_BOOL"),
    "an interval": ("SELECT %s::interval AS one", [timedelta(1)], "TYPE_INTERVAL"),
}
BY_TEXT = {
    "a column called as a function": ("SELECT position FROM lanes", "error in your SQL syntax"),
    "IF NOT EXISTS of an index that is there": (
        "CREATE INDEX IF NOT EXISTS stock_changed ON stock (changed_at)", "already exists",
    ),
    "a distribution column with a cast": (
        "INSERT INTO commits (id, happened, at) VALUES ('x'::text, true, now())", "routing to multiple data nodes",
    ),
    "LOCK TABLE, which a move needs": ("LOCK TABLE orders IN EXCLUSIVE MODE", "error in your SQL syntax"),
    "users": ("CREATE ROLE shop_order", "Unsupported operation"),
    "rights": ("GRANT SELECT ON orders TO postgres", "Unsupported operation"),
    "LISTEN": ("LISTEN orders", "error in your SQL syntax"),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_MESSAGES)
def test_what_the_proxy_takes_by_no_message_with_parameters(sharding_proxy: RunningProxy, what: str) -> None:
    statement, values, why = BY_MESSAGES[what]
    with sharding_proxy.connect() as connection, pytest.raises(psycopg.Error, match=why):
        connection.execute(statement.encode(), values)
    with sharding_proxy.connect(cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(statement.encode(), values)


@pytest.mark.parametrize("what", BY_TEXT)
def test_what_the_proxy_does_not_take_at_all(sharding_proxy: RunningProxy, what: str) -> None:
    statement, why = BY_TEXT[what]
    with sharding_proxy.connect() as connection, pytest.raises(psycopg.Error, match=why):
        connection.execute(statement.encode())


ANSWERED = {
    "a time, without its zone": ("SELECT at FROM commits LIMIT 1", "timestamp", "timestamptz"),
    "a boolean, as a bit": ("SELECT happened FROM commits LIMIT 1", "bit", "bool"),
    "jsonb, as text": ("SELECT inbox FROM orders LIMIT 1", "json", "jsonb"),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_types_that_the_proxy_calls_otherwise(sharding_proxy: RunningProxy, what: str) -> None:
    statement, told, own = ANSWERED[what]
    for connection, name in ((sharding_proxy.connect(), told), (sharding_proxy.behind(0), own)):
        with connection:
            described = connection.execute(statement.encode()).description
        assert described
        assert described[0].type_code == psycopg.adapters.types[name].oid


def test_what_is_asked_of_the_system_s_tables_finds_nothing(sharding_proxy: RunningProxy) -> None:
    query = b"SELECT 1 AS one FROM pg_constraint WHERE conname = 'commits_pkey'"
    with sharding_proxy.behind(0) as connection:
        assert connection.execute(query).fetchall() == [(1,)]
    with sharding_proxy.connect() as connection:
        found = connection.execute(query)
        assert found.description is None or found.fetchall() == []
