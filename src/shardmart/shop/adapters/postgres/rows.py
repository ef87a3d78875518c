"""Aggregates and events as rows, and back.  Nothing here talks to a server.

A column for each field; lists and mappings are jsonb.  Ids are the texts that callers see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from ...domain.events import Aggregate, Event
from ...domain.identifiers import lane_of
from ...domain.notification import Notification
from ...domain.order import Line, Order
from ...domain.payment import Payment
from ...domain.stock import Reservation, Stock
from ...ports import AggregateT
from .connection import Row

EVENT_COLUMNS = ("type", "key", "region", "producer", "number", "data", "customer", "trace", "at", "schema")
"""As the fields of an event; its number is that of its producer, not the one in the log."""


@dataclass(frozen=True)
class Table:
    """The table of one kind of aggregate, and the statements on it."""

    kind: type[Aggregate]
    name: str
    columns: tuple[str, ...]
    keyed_by_region: bool = True

    @property
    def select(self) -> str:
        """All columns of all rows."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name}"  # noqa: S608 - our own names

    @property
    def by_ids(self) -> str:
        """Rows of a region by their ids: parameters `region` and `ids`."""
        where = "region = %(region)s AND id = ANY(%(ids)s)" if self.keyed_by_region else "id = ANY(%(ids)s)"
        return f"{self.select} WHERE {where}"

    @property
    def insert(self) -> bytes:
        """A new row: a parameter for each column, and `now`."""
        columns, values = self._written()
        return f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({', '.join(values)})".encode()  # noqa: S608

    @property
    def update(self) -> bytes:
        """A row that still has the version `seen`."""
        pairs = [f"{c} = {v}" for c, v in zip(*self._written(), strict=True) if c not in ("id", "region")]
        key = "id = %(id)s AND region = %(region)s" if self.keyed_by_region else "id = %(id)s"
        return f"UPDATE {self.name} SET {', '.join(pairs)} WHERE {key} AND version = %(seen)s".encode()  # noqa: S608

    def _written(self) -> tuple[list[str], list[str]]:
        columns = list(self.columns)
        values = [f"%({column})s" for column in columns]
        if self.kind is Stock:
            return [*columns, "changed_at"], [*values, "%(now)s"]
        return columns, values


def _table(kind: type[Aggregate], name: str) -> Table:
    everywhere = kind is not Stock
    return Table(kind, name, tuple(f.name for f in fields(kind) if everywhere or f.name != "region"), everywhere)


TABLES: Mapping[type[Aggregate], Table] = {
    kind: _table(kind, name)
    for kind, name in (
        (Order, "orders"),
        (Stock, "stock"),
        (Reservation, "reservations"),
        (Payment, "payments"),
        (Notification, "notifications"),
    )
}
"""In the order in which a transaction writes them."""


def values_of(aggregate: Aggregate) -> dict[str, Any]:
    """What the statements of its table want."""
    found: dict[str, Any] = {}
    for field in fields(aggregate):
        value = getattr(aggregate, field.name)
        if field.name == "lines":
            value = [[line.product, line.quantity, line.unit_price_cents] for line in value]
        elif field.name == "history":
            value = [entry | {"at": entry["at"].isoformat()} for entry in value]
        found[field.name] = Jsonb(value) if isinstance(value, list | dict) else value
    return found


def aggregate_of(kind: type[AggregateT], row: Row) -> AggregateT:
    """The aggregate in a row."""
    found = {column: row[column] for column in TABLES[kind].columns}
    if kind is Stock:
        found["region"] = ""
    if kind is Order:
        found["lines"] = [Line(*line) for line in found["lines"]]
        found["history"] = [entry | {"at": datetime.fromisoformat(entry["at"])} for entry in found["history"]]
    return kind(**found)


def place_of(region: str, lane: int) -> str:
    """A sequence of events, as it is called in the tables."""
    return f"{region}/{lane}"


def place_of_event(event: Event, lanes: int) -> str:
    """Where an event is, in a shop of so many lanes a region."""
    return place_of(event.region, lane_of(event.key, lanes))


def event_of(row: Mapping[str, Any]) -> Event:
    """The event in a row, or in a document of `document_of`."""
    found = {column: row[column] for column in EVENT_COLUMNS}
    if isinstance(found["at"], str):
        found["at"] = datetime.fromisoformat(found["at"])
    return Event(**found)


def document_of(event: Event) -> dict[str, Any]:
    """An event as one JSON document."""
    found = {column: getattr(event, column) for column in EVENT_COLUMNS}
    return found | {"at": event.at.isoformat() if event.at else None}
