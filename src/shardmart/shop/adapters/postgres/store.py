"""The store of a service on PostgreSQL's protocol.

Transactions are begun anew where the server says that they did nothing.  Where nobody can say whether a COMMIT
happened, the store is asked by the transaction's own key before anything is done again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import psycopg

from shardmart.errors import ShardmartError

from ...domain.order import Order
from ...domain.payment import WORKING, Payment
from ...domain.stock import HELD, Reservation, Stock
from ...ports import AggregateT, ConflictError, Document, KeyInUseError, Lane, Parked, StoredAnswer, StoreError, T, Unit
from ...settings import Relational
from .connection import Connection, Pool, connect
from .errors import READ_ONLY, errors_of_the_store, is_gone, is_undecided, may_try_again, said
from .flavours import session
from .rows import TABLES, aggregate_of, event_of
from .tables import VERSION
from .unit import STOCKS, PostgresUnit, stocks_in, write_events

ATTEMPTS = 5
"""How often a transaction that did nothing is begun anew before the caller hears of it."""
CONNECTIONS = 6
LATER_SECONDS = 1.0
PAUSE_SECONDS = 0.25
_LATER: set[asyncio.Task[None]] = set()
logger = logging.getLogger(__name__)


class NotCommittedError(ShardmartError):
    """The answer to a COMMIT was lost, and the store says that it did not happen and will not."""


def pool_of(options: Relational, service: str, seconds: float) -> Pool:
    """The connections of an instance of `service`; none is used longer than `seconds`."""
    told = session(options.flavour, seconds).encode()

    async def opened() -> Connection:
        connection = await connect(options, name=f"shop-{service}", writes=True)
        try:
            await connection.execute(told)
        except BaseException:
            await connection.close()
            raise
        return connection

    return Pool(options, opened=opened, seconds=seconds, size=CONNECTIONS)


class PostgresStore:
    """See `ports.Store`.  Times in seconds."""

    def __init__(
        self, pool: Pool, lanes: int, *, seconds: float = 5.0, lease_seconds: float = 10.0, events_later: bool = False
    ) -> None:
        """`events_later` is a negative control: events are written a moment after the transaction, by themselves."""
        self._pool, self._lanes, self._seconds, self._events_later = pool, lanes, seconds, events_later
        self._lease = timedelta(seconds=lease_seconds)

    async def transact(
        self, work: Callable[[Unit], Awaitable[T]], lane: Lane | None = None, position: str | None = None
    ) -> T:
        """See `ports.Store`."""
        deadline = asyncio.get_running_loop().time() + self._seconds
        with errors_of_the_store():
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._once(work, lane, position)
                except (ConflictError, NotCommittedError, psycopg.Error) as error:
                    if isinstance(error, psycopg.Error) and (is_gone(error) or error.sqlstate == READ_ONLY):
                        await self._pool.forget()
                    last = attempt == ATTEMPTS or asyncio.get_running_loop().time() > deadline
                    if last and isinstance(error, NotCommittedError):
                        raise StoreError("PostgreSQL: a COMMIT did not happen, and its answer was lost") from None
                    if last or not _is_passing(error):
                        raise
                    await asyncio.sleep(random.uniform(0, 0.01) * 2**attempt)  # noqa: S311
        raise AssertionError

    async def _once(self, work: Callable[[Unit], Awaitable[T]], lane: Lane | None, position: str | None) -> T:
        id_ = secrets.token_hex(16)
        async with self._pool.connection() as connection:
            unit = PostgresUnit(connection, self._lanes, lane)
            try:
                await unit.begin(position, self._lease)
                result = await work(unit)
                await unit.flush(id_, events=not self._events_later)
            except psycopg.Error as error:
                if not is_gone(error):
                    await connection.execute("ROLLBACK", prepare=False)
                raise
            except Exception:
                await connection.execute("ROLLBACK", prepare=False)
                raise
            undecided = await _commit(connection)
        # The connection is given back by now: who looks up needs one, and so may all the others at that moment.
        if undecided is not None and unit.wrote:
            logger.warning("the answer to a COMMIT was lost", extra={"reason": said(undecided)})
            if not await self._happened(id_):
                raise NotCommittedError from undecided
        if self._events_later:
            self._write_later(unit.told)
        return result

    async def _happened(self, id_: str) -> bool:
        """Whether the transaction of this key was committed; False means that it never will be.

        Its key is written here, too: the server lets that wait for a transaction with the same key that still runs, and
        then one of the two is there and the other is not.  It may be asked any number of times.
        """
        await self._pool.forget()
        deadline = asyncio.get_running_loop().time() + self._seconds
        while True:
            try:
                await self._pool.rows(
                    "INSERT INTO commits VALUES (%s, false, now()) ON CONFLICT (id) DO NOTHING", [id_]
                )
                (found,) = await self._pool.rows("SELECT happened FROM commits WHERE id = %s", [id_])
                return bool(found["happened"])
            except (StoreError, TimeoutError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise StoreError(f"nobody can say whether a COMMIT happened: {error}") from None
                await asyncio.sleep(PAUSE_SECONDS)

    def _write_later(self, events: Sequence[object]) -> None:
        """The negative control's mistake: what ends this process before then loses the events."""

        async def write() -> None:
            await asyncio.sleep(LATER_SECONDS)
            async with self._pool.connection() as connection, connection.transaction():
                (row,) = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchall()
                await write_events(connection, events, self._lanes, row["now"])  # type: ignore[arg-type]

        if events:
            task = asyncio.create_task(write())
            _LATER.add(task)
            task.add_done_callback(_LATER.discard)

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """See `ports.Store`."""
        return (await self.get_many(kind, region, [id_])).get(id_)

    async def get_many(self, kind: type[AggregateT], region: str, ids: Sequence[str]) -> dict[str, AggregateT]:
        """See `ports.Store`."""
        if not ids:
            return {}
        rows = await self._rows(TABLES[kind].by_ids, {"region": region, "ids": list(ids)})
        return {row["id"]: aggregate_of(kind, row) for row in rows}

    async def _rows(self, query: str, values: object = ()) -> list[Document]:
        with errors_of_the_store():
            return await self._pool.rows(query, values)  # type: ignore[arg-type]

    async def stored_answer(self, region: str, key: str) -> StoredAnswer | None:
        """See `ports.Store`."""
        query = "SELECT fingerprint, status, body, headers FROM idempotency_keys WHERE region = %s AND key = %s"
        for row in await self._rows(query, [region, key]):
            return StoredAnswer(**row)
        return None

    async def answered(self, region: str, keys: Sequence[str]) -> set[str]:
        """See `ports.Store`."""
        query = "SELECT key FROM idempotency_keys WHERE region = %s AND key = ANY(%s)"
        return {row["key"] for row in await self._rows(query, [region, list(keys)])}

    async def stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """See `ports.Store`."""
        return stocks_in(await self._rows(STOCKS, {"ids": list(products)}))

    async def all_stocks(self, *, low_only: bool = False, limit: int | None = None) -> AsyncIterator[Stock]:
        """See `ports.Store`."""
        after, left = "", limit
        low = " AND low" if low_only else ""
        while left is None or left > 0:
            size = min(1000, left or 1000)
            query = f"{TABLES[Stock].select} WHERE id > %s{low} ORDER BY id LIMIT %s"
            rows = await self._rows(query, [after, size])
            for row in rows:
                yield aggregate_of(Stock, row)
            if len(rows) < size:
                return
            after, left = rows[-1]["id"], None if left is None else left - len(rows)

    async def follow_stocks(self) -> AsyncIterator[Stock | None]:
        """See `ports.Store`.

        What was changed is committed later than it says, by no more than a transaction may last: so far back is read
        each time, and what was told is known by its version.
        """
        back = timedelta(seconds=4 * self._seconds)
        (start,) = await self._rows("SELECT clock_timestamp() AS now")
        since: datetime = start["now"]
        told = {row["id"]: row["version"] for row in await self._rows(CHANGED_STOCKS, [since - back])}
        yield None
        while True:
            rows = await self._rows(CHANGED_STOCKS, [since - back])
            for row in rows:
                since = max(since, row["changed_at"])
                if told.get(row["id"]) != row["version"]:
                    told[row["id"]] = row["version"]
                    yield aggregate_of(Stock, row)
            told = {row["id"]: row["version"] for row in rows}
            yield None
            await asyncio.sleep(PAUSE_SECONDS)  # polling interval

    async def orders_of(
        self, region: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[Order]:
        """See `ports.Store`."""
        older, values = "", list[object]([region, customer])
        if before:
            older = " AND (created_at, id) < (%s, %s)"
            values += [before[0], f"{customer}.{before[1]}"]
        query = f"{TABLES[Order].select} WHERE region = %s AND customer = %s{older}"
        rows = await self._rows(f"{query} ORDER BY created_at DESC, id DESC LIMIT %s", [*values, limit])
        return [aggregate_of(Order, row) for row in rows]

    async def count_by_status(self) -> dict[str, int]:
        """See `ports.Store`."""
        rows = await self._rows("SELECT status, count(*) AS orders FROM orders GROUP BY status")
        return {row["status"]: row["orders"] for row in rows}

    async def products(self, ids: Sequence[str]) -> dict[str, Document]:
        """See `ports.Store`."""
        rows = await self._rows("SELECT id, name, price_cents FROM products WHERE id = ANY(%s)", [list(ids)])
        return {row["id"]: row for row in rows}

    async def customer(self, region: str, user: str) -> Document | None:
        """See `ports.Store`."""
        rows = await self._rows("SELECT name, email FROM customers WHERE region = %s AND id = %s", [region, user])
        return rows[0] if rows else None

    async def due(self, kind: type[AggregateT], lane: Lane, limit: int) -> list[AggregateT]:
        """See `ports.Store`."""
        at = "until" if kind is Reservation else "due_at"
        state, values = "", list[object]([lane.region, lane.number])
        if kind is Reservation:
            state = f" AND state = '{HELD}'"
        elif kind is Payment:
            state = " AND state = ANY(%s)"
            values.append(sorted(WORKING))
        where = f"region = %s AND lane = %s{state} AND {at} <= clock_timestamp()"
        rows = await self._rows(f"{TABLES[kind].select} WHERE {where} ORDER BY {at} LIMIT %s", [*values, limit])
        return [aggregate_of(kind, row) for row in rows]

    async def parked(self, lane: Lane, limit: int = 1000) -> list[Parked]:
        """See `ports.Store`."""
        rows = await self._rows(
            "SELECT event, reason, again, place FROM parked_events WHERE service = %s AND region = %s AND lane = %s"
            " ORDER BY key, place, id LIMIT %s",
            [lane.service, lane.region, lane.number, limit],
        )
        return [Parked(event_of(row["event"]), row["reason"], row["again"], row["place"]) for row in rows]

    async def send_again(self, service: str, regions: Sequence[str], key: str | None) -> int:
        """See `ports.Store`."""
        one, values = (" AND key = %s", [key]) if key else ("", [])
        query = f"UPDATE parked_events SET again = true WHERE service = %s AND region = ANY(%s){one} RETURNING id"  # noqa: S608
        return len(await self._rows(query, [service, list(regions), *values]))

    async def ping(self) -> None:
        """See `ports.Store`; StoreError, too, while the tables are not those of this version."""
        with errors_of_the_store():
            async with asyncio.timeout(min(2.0, self._seconds)):
                rows = await self._pool.rows("SELECT coalesce(max(version), 0) AS version FROM schema_versions")
        if rows[0]["version"] != VERSION:
            raise StoreError(f"the tables have version {rows[0]['version']} and this needs {VERSION}")


async def _commit(connection: Connection) -> psycopg.Error | None:
    """Commit; the error after which nobody knows whether that happened.  Raises those that say it did not."""
    try:
        ended = await connection.execute("COMMIT", prepare=False)
    except psycopg.Error as error:
        if not is_undecided(error):
            raise
        with suppress(psycopg.Error):
            await connection.close()
        return error
    if ended.statusmessage != "COMMIT":  # the transaction had failed, and somebody went on with it
        raise ConflictError("PostgreSQL: the transaction had failed before its end")
    return None


CHANGED_STOCKS = f"{TABLES[Stock].select.replace(' FROM', ', changed_at FROM')} WHERE changed_at > %s"


def _is_passing(error: Exception) -> bool:
    if isinstance(error, ConflictError):
        return not isinstance(error, KeyInUseError)
    return isinstance(error, NotCommittedError) or may_try_again(error)
