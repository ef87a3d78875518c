"""Claims of the store on PostgreSQL's protocol that need no server: rows, flavours, and what only one engine knows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shardmart.shop.adapters import postgres
from shardmart.shop.adapters.postgres import errors
from shardmart.shop.adapters.postgres.flavours import BY_REGION, DISTRIBUTION, FLAVOURS, REFERENCE
from shardmart.shop.adapters.postgres.log import position_of
from shardmart.shop.adapters.postgres.rows import TABLES, aggregate_of, document_of, event_of, values_of
from shardmart.shop.adapters.postgres.tables import MIGRATIONS, RIGHTS
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.order import Line, Order
from shardmart.shop.domain.stock import Reservation, Stock

MADE = {
    found[1]: statement
    for statement in MIGRATIONS[0]
    if (found := re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", statement))
}
"""Table \u2192 the statement that makes it."""


def keys_of(statement: str) -> list[list[str]]:
    """The columns of each unique constraint."""
    together = re.findall(r"(?:PRIMARY KEY|UNIQUE) \(([^)]+)\)", statement)
    alone = re.findall(r"^\s+(\w+) [^\n]*PRIMARY KEY,?$", statement, re.MULTILINE)
    return [columns.split(", ") for columns in together] + [[column] for column in alone]


def test_every_table_has_its_place_and_is_unique_by_what_says_where_a_row_lies() -> None:
    assert DISTRIBUTION.keys() == MADE.keys()
    assert REFERENCE == ("schema_versions",)
    for table, column in DISTRIBUTION.items():
        keys = keys_of(MADE[table])
        assert keys, table
        assert [key for key in keys if column not in key] == [], f"{table}: Citus refuses a key without {column}"


def test_a_table_by_region_has_a_region() -> None:
    assert [table for table in BY_REGION if not re.search(r"^\s+region text", MADE[table], re.MULTILINE)] == []


def test_columns_are_the_fields_of_the_aggregates() -> None:
    for table in TABLES.values():
        columns = set(re.findall(r"^\s+(\w+) (?:text|bigint|jsonb|boolean|timestamptz|\{id\})", MADE[table.name], re.M))
        assert columns - {"changed_at"} == set(table.columns), table.name


def test_rights_are_on_tables_that_are_there() -> None:
    assert {table for rights in RIGHTS.values() for table in rights} <= MADE.keys() | {"schema_versions"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_where_rows_live_is_asked_before_it_is_said(flavour: str) -> None:
    steps = FLAVOURS[flavour].placed("shop", ["APJ", "EMEA"])
    assert bool(steps) == (flavour != "plain")
    assert len(set(steps)) == len(steps)
    named = {table for table in MADE for done, does in steps if re.search(rf"\b{table}\b", does)}
    assert named == {"plain": set(), "citus": set(MADE), "cockroach": set(BY_REGION)}[flavour]


ONLY_ONE_KNOWS = re.compile(
    r"advisory|\bLISTEN\b|\bNOTIFY\b|xid8|pg_snapshot|nextval|SERIAL|crdb_|SHOW REGIONS|create_distributed|GENERATED"
    r"|DO UPDATE SET[^\"]*(now|clock_timestamp)\(|RETURNING[^\"]*(now|clock_timestamp)\("
    r"|UPDATE [^\"]*SET [^\"]*clock_timestamp\("
)


def test_nothing_that_one_engine_knows_alone_is_outside_its_flavour() -> None:
    folder = Path(postgres.__file__).parent
    looked = [file for file in folder.glob("*.py") if file.name not in ("flavours.py", "schema.py", "catalogue.py")]
    assert {"log.py", "lanes.py", "store.py", "tables.py", "unit.py"} <= {file.name for file in looked}
    found = {}
    for file in looked:
        code = re.sub(r'""".*?"""|#[^\n]*', "", file.read_text().replace('"""CREATE', '"CREATE'), flags=re.DOTALL)
        if match := ONLY_ONE_KNOWS.search(code):
            found[file.name] = match[0]
    assert found == {}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """A row as the server gives it back."""
    return {name: value.obj if isinstance(value, Jsonb) else value for name, value in values.items()}


def test_an_aggregate_comes_back_from_its_row() -> None:
    at = datetime(2026, 11, 28, 15, 0, 0, 123_000, tzinfo=UTC)
    order = Order("EMEA.9007199254740993.1", "EMEA", customer="EMEA.9007199254740993")
    order.place([Line("9007199254740993", 2, 300)], at)
    reservation = Reservation(order.id, "EMEA", pieces={"tea": 2}, until=at)
    stock = Stock("tea", "", available=2**53 + 1)
    for aggregate in (order, reservation, stock):
        assert aggregate_of(type(aggregate), plain(values_of(aggregate))) == aggregate


def test_an_event_comes_back_from_its_document() -> None:
    event = Event("order-placed", "EMEA.u.1", "EMEA", "order", 1, {"a": [1]}, "EMEA.u", "t", datetime.now(UTC))
    assert event_of(document_of(event)) == event


def test_positions_compare_as_text_as_numbers_do() -> None:
    numbers = [0, 9, 10, 2**53 + 1]
    assert sorted(map(position_of, reversed(numbers))) == [position_of(number) for number in numbers]


@pytest.mark.parametrize(
    ("name", "again", "undecided"),
    [
        ("SerializationFailure", True, False),
        ("DeadlockDetected", True, False),
        ("ReadOnlySqlTransaction", True, False),
        ("UniqueViolation", True, False),
        ("StatementCompletionUnknown", False, True),
        ("TransactionResolutionUnknown", True, True),  # of class 08: a connection error before COMMIT
        ("AdminShutdown", True, True),
        ("CheckViolation", False, False),
        ("UndefinedTable", False, False),
    ],
)
def test_what_may_be_tried_again_and_what_has_to_be_asked(name: str, *, again: bool, undecided: bool) -> None:
    error = getattr(psycopg.errors, name)("on purpose")
    assert (errors.may_try_again(error), errors.is_undecided(error)) == (again, undecided)


def test_a_connection_that_was_cut_has_no_code_and_is_gone() -> None:
    error = psycopg.OperationalError("server closed the connection unexpectedly")
    assert errors.is_gone(error)
    assert errors.is_undecided(error)
