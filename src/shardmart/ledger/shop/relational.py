"""What a shop's store on PostgreSQL's protocol holds of a run, in the words of `stores.Stores`.

Each question has a connection of its own: servers come and go while a shop is tried.  Read by a user that may change
nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import LiteralString

from shardmart.errors import BadUseError, UnreachableError

from ..system import Document
from .http import HttpClient
from .place import ShopPlace
from .stores import BATCH, CUSTOMERS_PER_REGION, Stores

CONNECT_SECONDS = 30
PAUSE_SECONDS = 0.25
_OF: dict[tuple[str, str], LiteralString] = {
    ("reservations", "_id"): "SELECT id AS _id, state, revision, told, inbox, pieces FROM reservations"
    " WHERE id = ANY(%s)",
    ("payments", "_id"): "SELECT id AS _id, state, amount_cents, charge, refund, told, inbox FROM payments"
    " WHERE id = ANY(%s)",
    ("notifications", "_id"): "SELECT id AS _id, key, type, state FROM notifications WHERE id = ANY(%s)",
    ("events", "key"): "SELECT id AS _id, key, producer, number, type, data FROM events WHERE key = ANY(%s)",
}


class RelationalStores(Stores):
    """See `Stores`; its database is PostgreSQL, or what speaks its protocol.  Raises UnreachableError."""

    def __init__(self, place: ShopPlace, http: HttpClient) -> None:
        self._place, self._http = place, http
        try:
            import psycopg
        except ModuleNotFoundError:
            raise BadUseError("to read a store on PostgreSQL: pip install 'shardmart[shop]'") from None
        self._driver = psycopg

    def version(self) -> str:
        """The server's version, as it tells it."""
        (found,) = self._rows("SHOW server_version")
        return f"PostgreSQL {found['server_version']}"

    def _rows(self, query: LiteralString, values: Sequence[object] = ()) -> list[Document]:
        from psycopg.rows import dict_row

        # Of several servers one that has just become the primary may not say so yet; each has a part of the time.
        several, end = "," in self._place.store_uri, time.monotonic() + CONNECT_SECONDS
        seconds = CONNECT_SECONDS // 10 if several else CONNECT_SECONDS
        while True:
            try:
                with self._driver.connect(
                    self._place.store_uri, connect_timeout=seconds, row_factory=dict_row, autocommit=True
                ) as connection:
                    return connection.execute(query, values or None).fetchall()
            except self._driver.Error as error:
                if several and isinstance(error, self._driver.OperationalError) and time.monotonic() < end:
                    time.sleep(PAUSE_SECONDS)
                    continue
                state = f" {error.sqlstate}" if error.sqlstate else ""
                raise UnreachableError(f"the shop's store does not answer: {type(error).__name__}{state}") from None

    def customers(self) -> list[str]:
        """See `Stores`."""
        rows = self._rows(
            "SELECT region, id FROM (SELECT region, id, row_number() OVER (PARTITION BY region ORDER BY id) AS n"
            " FROM customers) AS numbered WHERE n <= %s ORDER BY region, id",
            [CUSTOMERS_PER_REGION],
        )
        return [f"{row['region']}.{row['id']}" for row in rows]

    def products(self, count: int) -> list[str]:
        """See `Stores`."""
        return [row["id"] for row in self._rows("SELECT id FROM products ORDER BY id LIMIT %s", [count])]

    def _first_pieces(self) -> dict[str, int]:
        return {row["id"]: row["stock"] for row in self._rows("SELECT id, stock FROM products")}

    def _parked(self) -> Iterator[Document]:
        yield from self._rows("SELECT id AS _id, key, service, reason FROM parked_events")

    def _orders(self, run: str) -> Iterator[Document]:
        rows = self._rows("SELECT * FROM orders WHERE left(address->>'street', %s) = %s", [len(run) + 1, f"{run}:"])
        for row in rows:
            yield {
                "_id": row["id"],
                "op": int(row["address"]["street"].split(":", 1)[1]),
                "customer": row["customer"],
                "status": row["status"],
                "total_cents": row["total_cents"],
                "items": row["lines"],
                "city": row["address"]["city"],
                "version": row["version"],
                "revision": row["revision"],
                "told": row["told"],
                "inbox": row["inbox"],
                "history": [entry["status"] for entry in row["history"]],
                "reason": row["reason"],
            }

    def _of(self, collection: str, field: str, keys: Sequence[str]) -> Iterator[Document]:
        for start in range(0, len(keys), BATCH):
            for row in self._rows(_OF[collection, field], [list(keys[start : start + BATCH])]):
                if collection == "reservations":
                    row["pieces"] = [{"product": p, "quantity": q} for p, q in row["pieces"].items()]
                yield row

    def _stock(self) -> dict[str, tuple[int, int]]:
        rows = self._rows("SELECT id, available, version FROM stock")
        return {row["id"]: (row["available"], row["version"]) for row in rows}

    def _held(self) -> Counter[str]:
        held: Counter[str] = Counter()
        for row in self._rows("SELECT pieces FROM reservations WHERE state IN ('held', 'taken')"):
            held.update(row["pieces"])
        return held


def is_relational(uri: str) -> bool:
    """Whether a URI names a server that speaks PostgreSQL's protocol."""
    return uri.startswith(("postgresql://", "postgres://"))
