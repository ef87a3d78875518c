"""One transaction on PostgreSQL.

It runs in READ COMMITTED: what it changes has the version that it read, or it conflicts, so nothing is decided by what
another has changed meanwhile; and who waits for a place in the log goes on with the latest number, which a snapshot
would not show (docs/decisions/138).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import errors
from psycopg.types.json import Jsonb

from ...domain.events import Aggregate, Event
from ...domain.stock import Stock
from ...ports import ConflictError, FencedError, KeptAnswer, KeptParked, KeyInUseError, Lane, Parked, StoredAnswer
from ..identity_map import IdentityMap
from .connection import Connection, Row
from .rows import EVENT_COLUMNS, TABLES, aggregate_of, document_of, place_of_event, values_of

TICK = timedelta(microseconds=1)
"""Between two events of a place, so that their times tell their order."""


class PostgresUnit(IdentityMap):
    """See `ports.Unit`."""

    def __init__(self, connection: Connection, lanes: int, lane: Lane | None) -> None:
        self._connection, self._lanes, self._lane = connection, lanes, lane
        super().__init__()
        self._events: list[Event] = []
        self.wrote = False
        self.now = datetime.now(UTC)

    async def begin(self, position: str | None, lease: timedelta) -> None:
        """Begin, and read the store's time; hold the lane to the end, so that whoever takes it waits, and is later.

        Stores the position.  FencedError when the lane has a later epoch.
        """
        await self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        (found,) = await self._rows("SELECT clock_timestamp() AS now")
        self.now = found["now"]
        if self._lane is None:
            return
        lane = self._lane
        moved = ', "position" = %(position)s, position_at = %(now)s' if position is not None else ""
        self.wrote = True
        held = await self._connection.execute(
            f"UPDATE lanes SET until = %(until)s{moved} WHERE service = %(service)s AND region = %(region)s"  # noqa: S608
            " AND number = %(number)s AND epoch = %(epoch)s".encode(),
            {"until": self.now + lease, "now": self.now, "position": position}
            | {"service": lane.service, "region": lane.region, "number": lane.number, "epoch": lane.epoch},
        )
        if held.rowcount != 1:
            raise FencedError(f"{lane.service} {lane.name} has a later epoch than {lane.epoch}")

    async def _rows(self, query: str, values: Any = None) -> list[Row]:
        return await (await self._connection.execute(query.encode(), values)).fetchall()

    async def _read(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> list[Aggregate]:
        rows = await self._rows(TABLES[kind].by_ids, {"region": region, "ids": list(ids)})
        return [aggregate_of(kind, row) for row in rows]

    async def _read_stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        return stocks_in(await self._rows(STOCKS, {"ids": list(products)}))

    def tell(self, events: Sequence[Event], trace: str) -> None:
        """See `ports.Unit`."""
        self._events += [replace(event, trace=event.trace or trace) for event in events]

    async def store_answer(self, region: str, key: str, answer: StoredAnswer) -> None:
        """See `ports.Unit`."""
        self.wrote = True
        try:
            await self._connection.execute(INSERT_ANSWER, values_of_answer(KeptAnswer(region, key, self.now, answer)))
        except (errors.UniqueViolation, errors.LockNotAvailable):
            raise KeyInUseError("the first request with this key is being handled") from None

    async def park(self, lane: Lane, event: Event, reason: str) -> None:
        """See `ports.Unit`."""
        self.wrote = True
        (behind,) = await self._rows(
            "SELECT coalesce(max(place) + 1, 0) AS place FROM parked_events WHERE key = %s AND service = %s",
            (event.key, lane.service),
        )
        parked = Parked(event, reason[:500], False, behind["place"])
        # One that is there stays where it is: a replay comes by it, and so does who reads the outbox after a gap.
        await self._connection.execute(
            INSERT_PARKED + b" ON CONFLICT (key, service, id) DO NOTHING",
            values_of_parked(KeptParked(lane.service, lane.number, self.now, parked)),
        )

    async def unpark(self, lane: Lane, event: Event) -> None:
        """See `ports.Unit`."""
        self.wrote = True
        await self._connection.execute(
            "DELETE FROM parked_events WHERE key = %s AND service = %s AND id = %s", (event.key, lane.service, event.id)
        )

    async def flush(self, id_: str, *, events: bool = True) -> None:
        """Write what was put and told, and under `id_` that it was; once, at the end of the transaction.

        In one order, or two transactions would wait for each other; and places last, because they are held to the end.
        """
        for kind in TABLES:
            await self._write(kind)
        if events:
            await write_events(self._connection, self._events, self._lanes, self.now)
        self.wrote = self.wrote or bool(self._changed or self._events)
        if self.wrote:
            await self._connection.execute("INSERT INTO commits VALUES (%s, true, %s)", (id_, self.now))

    @property
    def told(self) -> list[Event]:
        """The events."""
        return list(self._events)

    async def _write(self, kind: type[Aggregate]) -> None:
        table, inserts, updates = TABLES[kind], list[dict[str, Any]](), list[dict[str, Any]]()
        for aggregate, seen in self._put_of(kind):
            values = values_of(aggregate) | {"seen": seen, "now": self.now}
            (updates if seen else inserts).append(values)
        async with self._connection.cursor() as cursor:
            for statement, rows in ((table.insert, inserts), (table.update, updates)):
                if rows:
                    await cursor.executemany(statement, rows)
                    if cursor.rowcount != len(rows):
                        raise ConflictError(f"a {kind.__name__} has another version")


async def write_events(connection: Connection, events: Sequence[Event], lanes: int, now: datetime) -> None:
    """Append events to the log, each to its place.

    The place's row is locked until the transaction ends: numbers are committed in their order, and none is missing.
    """
    places: dict[str, list[Event]] = {}
    for event in events:
        places.setdefault(place_of_event(event, lanes), []).append(event)
    for place, own in sorted(places.items()):
        cursor = await connection.execute(
            "INSERT INTO event_places VALUES (%(place)s, %(count)s, %(end)s) ON CONFLICT (place) DO UPDATE"
            " SET last = event_places.last + %(count)s, last_at = greatest(%(end)s, event_places.last_at + %(time)s)"
            " RETURNING last, last_at",
            {"place": place, "count": len(own), "time": len(own) * TICK, "end": now + len(own) * TICK},
        )
        (end,) = await cursor.fetchall()
        async with connection.cursor() as writing:
            await writing.executemany(
                INSERT_EVENT,
                [
                    values_of_event(event, place, end["last"] - behind, end["last_at"] - behind * TICK)
                    for behind, event in zip(reversed(range(len(own))), own, strict=True)
                ],
            )


def values_of_event(event: Event, place: str, logged: int, at: datetime) -> dict[str, Any]:
    """What `INSERT_EVENT` wants."""
    found = {name: getattr(event, name) for name in EVENT_COLUMNS} | {"data": Jsonb(event.data), "at": at}
    return found | {"place": place, "lane": int(place.rpartition("/")[2]), "logged": logged, "id": event.id}


def values_of_answer(kept: KeptAnswer) -> tuple[object, ...]:
    """What `INSERT_ANSWER` wants."""
    answer = kept.answer
    headers = Jsonb(dict(answer.headers))
    return kept.region, kept.key, answer.fingerprint, answer.status, answer.body, headers, kept.at


def values_of_parked(kept: KeptParked) -> tuple[object, ...]:
    """What `INSERT_PARKED` wants."""
    parked, event = kept.parked, kept.parked.event
    whose = (event.key, kept.service, event.id, event.region, kept.lane)
    return *whose, parked.order, parked.reason, kept.at, parked.again, Jsonb(document_of(event))


INSERT_ANSWER = (
    b"INSERT INTO idempotency_keys (region, key, fingerprint, status, body, headers, at)"
    b" VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
INSERT_PARKED = (
    b"INSERT INTO parked_events (key, service, id, region, lane, place, reason, at, again, event)"
    b" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_COLUMNS = ("place", "lane", "logged", "id", *EVENT_COLUMNS)
INSERT_EVENT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join(f'%({name})s' for name in _COLUMNS)})".encode()  # noqa: S608
)
STOCKS = (
    "SELECT p.id, coalesce(s.version, 0) AS version, coalesce(s.told, 0) AS told, coalesce(s.inbox, '[]') AS inbox,"
    " coalesce(s.available, p.stock) AS available, coalesce(s.low, false) AS low"
    " FROM products p LEFT JOIN stock s ON s.id = p.id WHERE p.id = ANY(%(ids)s)"
    " UNION ALL SELECT id, version, told, inbox, available, low FROM stock"
    " WHERE id = ANY(%(ids)s) AND id NOT IN (SELECT id FROM products WHERE id = ANY(%(ids)s))"
)
"""The stock of products, their first one where there is none yet; and stock of what is no product any more."""


def stocks_in(rows: Sequence[Row]) -> dict[str, Stock]:
    """Stock by product."""
    return {row["id"]: aggregate_of(Stock, row) for row in rows}
