"""The region nodes as a system of the ledger: Customer_Region, which every node's clients write and its peers are told.

It speaks to each node as the shop does and knows nothing of how the nodes agree: what it relies on is that a row
carries the version (time in microseconds, node) of the write that made it, and that the greater version stays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import psycopg

from shardmart.errors import BadUseError, UnreachableError
from shardmart.platforms.state import State

from ..journal import Outcome
from ..system import Document, Examination, PrepareError, Target
from .connections import FILE, Connections, Row, read

MARK = "ledger-"
"""How the customer_id of every row of the ledger begins."""
WAIT_SECONDS = 120.0
"""How long the nodes may take in all to become equal, from the first look at them: one that was killed starts and is
told; then the comparing repair comes by, once a minute."""
POLL_SECONDS = 0.5
READ_SECONDS = 60.0
REFUSED = ("22", "23", "40", "42")
"""Classes of SQLSTATE with which a server says that a commit is undone (PostgreSQL 18 manual, appendix A)."""
SUMS = """SELECT count(*), coalesce(sum(hashtextextended(ROW(region, customer_id, customer_name, email, city, country,
        deleted, version_time, version_node)::text, 0)::numeric), 0)::text FROM Customer_Region"""
ROWS = """SELECT customer_id, deleted, version_time, version_node, customer_name FROM Customer_Region
    WHERE customer_id LIKE %s ORDER BY customer_id"""


class RegionSystem:
    """See `System`.  `connections` are for the workload's clients."""

    on_shards: ClassVar = False

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._end: float | None = None

    @classmethod
    def connect(cls, target: Target) -> Self:
        """See `System`.  `--uri-file` is the file that `make fragments` wrote, else it is in the state folder."""
        if target.uri:
            raise BadUseError(
                "three nodes have no one connection string: give the file of their addresses (--uri-file)"
            )
        nodes, password = read(target.uri_file or State.find(target.state).folder / FILE)
        return cls(Connections(nodes, password, target.operation_seconds or READ_SECONDS))

    @staticmethod
    def key(run: str, number: int) -> str:
        """The customer_id of a run's key."""
        return f"{MARK}{run}:{number}"

    def close(self) -> None:
        """See `System`."""
        self.connections.close()

    def version(self) -> str:
        """See `System`."""
        found = self._ask(self.connections.names[0], "SHOW server_version")
        return f"PostgreSQL {found[0][0]} on {', '.join(self.connections.names)}"

    def prepare(self, collections: Mapping[str, Any]) -> None:
        """See `System`: nothing has to be made, and every node has to be there with its table."""
        del collections
        for name in self.connections.names:
            if self._ask(name, "SELECT to_regclass('Customer_Region') IS NULL")[0][0]:
                raise PrepareError(f"{name} has no table Customer_Region: run `make fragments`")

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        """See `System`.  Only a commit comes here: everything before it is undone with its connection."""
        if not isinstance(error, psycopg.Error):
            return None
        undone = error.sqlstate is not None and error.sqlstate[:2] in REFUSED
        return "failed" if undone else "unknown", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        """See `System`: every row of the run on every node, once the nodes are equal or have had the time for it."""
        del collection
        for name, rows in self._equal_in_the_end(run).items():
            for customer_id, deleted, moment, node, customer_name in rows:
                number = customer_id.rsplit(":", 1)[1]
                yield {
                    "_id": f"{name}:{number}",
                    "key": int(number),
                    "node": name,
                    "version": [moment, node],
                    "deleted": deleted,
                    "name": customer_name,
                }

    def _equal_in_the_end(self, run: str) -> dict[str, list[Row]]:
        while True:
            found = {name: self._rows(name, run) for name in self.connections.names}
            if len({json.dumps(rows) for rows in found.values()}) == 1 or not self._time_left():
                return found

    def _rows(self, name: str, run: str) -> list[Row]:
        """The rows of a run on one node, which may still be starting."""
        while True:
            try:
                return self._ask(name, ROWS, f"{self.key(run, 0)[:-1]}%")
            except UnreachableError:
                if not self._time_left():
                    raise

    def _time_left(self) -> bool:
        """Wait a moment, unless the nodes have had all the time that they may take."""
        self._end = self._end or time.monotonic() + WAIT_SECONDS
        if time.monotonic() > self._end:
            return False
        time.sleep(POLL_SECONDS)
        return True

    def examine(self, wait_seconds: float | None) -> Examination:
        """See `System`: the whole table is the same on every node."""
        if wait_seconds is not None:
            self._end = time.monotonic() + wait_seconds
        names = self.connections.names
        while True:
            sums = {name: self._ask(name, SUMS)[0] for name in names}
            if len(set(sums.values())) == 1:
                rows = next(iter(sums.values()))[0]
                return Examination(checked=[f"Customer_Region is the same on {', '.join(names)}: {rows:,} rows"])
            if not self._time_left():
                told = ", ".join(f"{name} has {rows:,} rows" for name, (rows, _) in sums.items())
                return Examination(
                    [f"Customer_Region is not the same on all nodes ({told}): `shardmart fragments repair`"]
                )

    def clean(self, run: str | None) -> dict[str, int]:
        """See `System`.  A deletion leaves a tombstone, which the repair removes in its time."""
        pattern = f"{self.key(run, 0)[:-1]}%" if run else f"{MARK}%"
        name = self.connections.names[0]
        living = self._ask(
            name, "SELECT count(*) FROM Customer_Region WHERE customer_id LIKE %s AND NOT deleted", pattern
        )
        try:
            with self.connections.on(name) as connection:
                connection.execute("DELETE FROM Customer_Region WHERE customer_id LIKE %s AND NOT deleted", (pattern,))
                connection.commit()
        except psycopg.Error as error:
            raise UnreachableError(f"{name}: {' '.join(str(error).split())}") from None
        return {"customers": int(living[0][0])}

    def _ask(self, name: str, query: Any, *values: object) -> list[Row]:
        try:
            return self.connections.ask(name, query, *values)
        except psycopg.Error as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UnreachableError(f"{name} does not answer: {said}: is it down? `make fragments`") from None
