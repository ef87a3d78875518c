"""The store on PostgreSQL as a move fills it: everything in one transaction, which also says that the store is here.

So there is no half of a move: either its COMMIT happened, and this is the shop's store, or nothing is here.  Only plain
PostgreSQL: neither of the other flavours was ever run.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from shardmart.errors import RefusedError, UnreachableError

from ...domain.events import Aggregate, Event
from ...ports import KeptAnswer, KeptParked, Lane, StoreError
from .administrator import told
from .connection import Row
from .rows import TABLES, place_of, values_of
from .tables import Administrator
from .unit import (
    INSERT_ANSWER,
    INSERT_EVENT,
    INSERT_PARKED,
    TICK,
    values_of_answer,
    values_of_event,
    values_of_parked,
)

FILLED = (*(table.name for table in TABLES.values()), "events", "event_places", "parked_events", "idempotency_keys")
"""Tables that a move fills, and finds empty."""
UNDECIDED = "nobody knows whether PostgreSQL took the store over: run the same command again, it looks"
HAVE_ORIGIN = """CREATE TABLE IF NOT EXISTS store_origin (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    moved_from text NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    documents jsonb NOT NULL)"""
HAVE_LANE = """INSERT INTO lanes (service, region, number, epoch, "position", position_at, replay_from)
    VALUES (%s, %s, %s, %s, NULL, %s, %s) ON CONFLICT (service, region, number) DO UPDATE SET
    epoch = greatest(lanes.epoch, excluded.epoch) + 1, owner = NULL, until = NULL, "position" = NULL,
    position_at = excluded.position_at, replay_from = excluded.replay_from"""


class UndecidedError(UnreachableError):
    """The answer to the COMMIT of a move was lost."""


class Arrival(Administrator):
    """The administrator's connection, which fills the store.  `prepare` comes first; nobody else moves till `close`."""

    async def origin(self) -> Row | None:
        """When the store came here, and how much of each; None: it did not.  StoreError."""
        try:
            if not await self._finds("SELECT 1 AS one FROM pg_tables WHERE tablename = 'store_origin'"):
                return None
            rows = await self._rows(b"SELECT moved_from, moved_at, documents FROM store_origin")
        except psycopg.Error as error:
            raise told(error) from error
        return rows[0] if rows else None

    async def must_be_empty(self) -> None:
        """RefusedError when there is something of a shop already; StoreError."""
        try:
            for table in FILLED:
                if await self._finds(f"SELECT 1 AS one FROM {table} LIMIT 1"):  # noqa: S608 - our own names
                    raise RefusedError(
                        f"the store on PostgreSQL has {table.replace('_', ' ')} of its own, and two stores are not "
                        "made one: empty it (drop the database), or leave the store where it is"
                    )
        except psycopg.Error as error:
            raise told(error) from error

    @asynccontextmanager
    async def filling(self) -> AsyncIterator[None]:
        """A transaction around the block: nothing is here unless all of it is.  StoreError, UndecidedError."""
        try:
            await self._run("BEGIN ISOLATION LEVEL READ COMMITTED")
            # Somebody who works on this store ends, or waits until it is filled.
            await self._run(f"LOCK TABLE {', '.join((*FILLED, 'lanes'))} IN EXCLUSIVE MODE")
            await self.must_be_empty()
            yield
        except BaseException as error:
            with suppress(psycopg.Error):
                await self._run("ROLLBACK")
            if isinstance(error, psycopg.Error):
                raise told(error) from error
            raise
        try:
            await self._run("COMMIT")
        except psycopg.Error as error:
            raise UndecidedError(UNDECIDED) from error

    async def is_alone(self) -> bool:
        """Whether this connection lives, and with it the lock that keeps other moves away."""
        try:
            return await self._finds("SELECT 1 AS one")
        except psycopg.Error:
            return False

    async def put(self, aggregates: Sequence[Aggregate]) -> None:
        """Add aggregates of one kind as they are; StoreError that names the table when it cannot hold one."""
        now, table = await self._now(), TABLES[type(aggregates[0])]
        try:
            await self._write(table.insert, [values_of(aggregate) | {"now": now} for aggregate in aggregates])
        except (psycopg.DataError, psycopg.IntegrityError, TypeError) as error:
            ids = f"{aggregates[0].id} and the next {len(aggregates) - 1}"
            why = told(error) if isinstance(error, psycopg.Error) else error  # not the row, which is a customer's
            raise StoreError(f"one of {table.name} {ids} is nothing that PostgreSQL can hold: {why}") from error

    async def put_events(self, region: str, lane: int, pages: AsyncIterable[Sequence[Event]]) -> AsyncIterator[int]:
        """Number all events of a place, which come by time, from 1 on; yields how many, now and then."""
        place, last, last_at = place_of(region, lane), 0, None
        async for page in in_order(pages):
            rows = []
            for event in page:
                assert event.at
                last, last_at = last + 1, _after(last_at, event.at)
                rows.append(values_of_event(event, place, last, last_at))
            await self._write(INSERT_EVENT, rows)
            yield len(rows)
        if last:
            await self._write(b"INSERT INTO event_places VALUES (%s, %s, %s)", [(place, last, last_at)])

    async def put_answers(self, answers: Sequence[KeptAnswer]) -> None:
        """Add answers under their idempotency keys."""
        await self._write(INSERT_ANSWER, [values_of_answer(kept) for kept in answers])

    async def put_parked(self, parked: Sequence[KeptParked]) -> None:
        """Add parked events."""
        await self._write(INSERT_PARKED, [values_of_parked(kept) for kept in parked])

    async def put_lanes(self, lanes: Sequence[Lane]) -> None:
        """Have lanes that begin where these are; whoever held one here does not any more."""
        rows = [
            (lane.service, lane.region, lane.number, lane.epoch, lane.position_at, lane.replay_from) for lane in lanes
        ]
        await self._write(HAVE_LANE.encode(), rows)

    async def take_over(self, source: str, documents: Mapping[str, int]) -> None:
        """Say that this is the shop's store, which came from `source` with so many of each; true once committed."""
        await self._run(HAVE_ORIGIN)
        await self._write(
            b"INSERT INTO store_origin (moved_from, documents) VALUES (%s, %s)", [(source, Jsonb(dict(documents)))]
        )

    async def _now(self) -> datetime:
        (row,) = await self._rows(b"SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def _rows(self, query: bytes) -> list[Row]:
        assert self._connection
        return await (await self._connection.execute(query)).fetchall()

    async def _write(self, statement: bytes, rows: Iterable[Any]) -> None:
        assert self._connection
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement, list(rows))


def _after(last: datetime | None, at: datetime) -> datetime:
    """The time of an event, or a moment after the last one: times of a place tell its order."""
    return at if last is None else max(at, last + TICK)


async def in_order(pages: AsyncIterable[Sequence[Event]]) -> AsyncIterator[list[Event]]:
    """The same events; those of one moment by their producers' numbers, as they were told.

    They come by time and then by id, of which 10 is before 9.
    """
    held: list[Event] = []
    async for page in pages:
        held += page
        latest = held[-1].at
        ready = [event for event in held if event.at != latest]
        held = held[len(ready) :]
        if ready:
            yield _by_number(ready)
    if held:
        yield _by_number(held)


def _by_number(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (event.at, event.number, event.id))
