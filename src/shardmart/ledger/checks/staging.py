"""The two sides of a check in one temporary SQLite file: what the journal expects, and what the system holds.

Rows are appended and then indexed, which SQLite sorts outside memory; the
cache is bounded, so five million operations need the memory of five thousand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CACHE_KIB = 65536
BATCH = 5000

MUST, MAY, MUST_NOT = 1, 0, -1
"""What the journal says of an operation's effect: acknowledged, unknown, refused."""

Row = tuple[Any, ...]


class Staging:
    """Tables `expected`, `seen`, `history` and `document` of one workload.  Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "staging.sqlite", isolation_level=None)
        for pragma in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "temp_store=FILE",
            f"cache_size=-{CACHE_KIB}",
            "locking_mode=EXCLUSIVE",
        ):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(
            """
            CREATE TABLE expected (token INTEGER PRIMARY KEY, must INTEGER, key, amount);
            CREATE TABLE seen (token INTEGER, key, amount);
            CREATE TABLE history (key INTEGER, start INTEGER, body TEXT);
            CREATE TABLE document (key INTEGER, body TEXT);
            """
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def fill(self, table: str, rows: Iterable[Row]) -> None:
        """Append rows to one of the tables, in batches."""
        batch: list[Row] = []
        for row in rows:
            if not batch:
                statement = f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})"  # noqa: S608 - our own names
            batch.append(row)
            if len(batch) == BATCH:
                self._database.executemany(statement, batch)
                batch.clear()
        if batch:
            self._database.executemany(statement, batch)

    def index(self) -> None:
        """Sort what was filled in; call once, before any question."""
        self._database.execute("CREATE INDEX seen_token ON seen (token, key, amount)")
        self._database.execute("CREATE INDEX document_key ON document (key)")
        self._database.execute("COMMIT")

    def ask(self, question: str, *values: object) -> Iterator[Row]:
        """Stream the answer to an SQL question."""
        yield from self._database.execute(question, values)
