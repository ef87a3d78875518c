"""Who handles which lane: leases in the store, in the store's time, each with an epoch that only grows.

The locks of an instance that was killed end with its connections; PostgreSQL looks for those that are gone every second
(`flavours`), and ends the transaction of a client that hangs (`idle_in_transaction_session_timeout`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from ...ports import Lane, StoreError
from .connection import Pool, Row
from .errors import errors_of_the_store

KEPT = timedelta(minutes=15)
"""How long it is known that a transaction was committed: whoever asks does so within seconds."""
TIDY = 100
"""Each so many beats what is older goes."""
logger = logging.getLogger(__name__)
RENEW = "UPDATE lanes SET until = %(until)s WHERE service = %(service)s AND owner = %(owner)s"
LANE = "service = %(service)s AND region = %(region)s AND number = %(number)s AND epoch = %(epoch)s"


class PostgresLanes:
    """See `ports.Lanes`.  An instance is a row, so that each knows its fair share."""

    def __init__(
        self, pool: Pool, service: str, instance: str, regions: Sequence[str], lanes: int, lease_seconds: float
    ) -> None:
        self._pool, self._service, self._instance = pool, service, instance
        self._regions, self._lanes = tuple(regions), lanes
        self._lease = timedelta(seconds=lease_seconds)
        self.owner = f"{instance}/{secrets.token_hex(4)}"
        """Its name and which process of that name: the next one is somebody else, and may take over at once."""
        self._made = self._entered = False
        self._beats = 0

    async def beat(self) -> list[Lane]:
        """See `ports.Lanes`."""
        with errors_of_the_store():
            await self._make()
            now = await self._now()
            await self._enter(now)
            mine = {"service": self._service, "owner": self.owner, "until": now + self._lease}
            await self._ask(RENEW, mine)
            lanes = await self._ask("SELECT * FROM lanes WHERE service = %(service)s ORDER BY region, number")
            instances = await self._ask("SELECT name, until FROM instances WHERE service = %(service)s")
            living = [one for one in instances if one["until"] > now]
            held = [lane for lane in lanes if lane["owner"] == self.owner]
            share = -(-len(lanes) // max(1, len(living)))
            free = [lane for lane in lanes if self._is_free(lane, now)]
            taken = await asyncio.gather(*(self._take(lane, now) for lane in free[: max(0, share - len(held))]))
            held = sorted([*held, *(lane for lane in taken if lane)], key=lambda lane: (lane["region"], lane["number"]))
            for lane in held[share:]:
                await self._free(lane)
            await self._tidy(now)
            return [self._lane(lane) for lane in held[:share]]

    async def _ask(self, query: str, values: Row | None = None) -> list[Row]:
        return await self._pool.rows(query, {"service": self._service} | (values or {}))

    async def _now(self) -> datetime:
        (row,) = await self._pool.rows("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    def _is_free(self, lane: Row, now: datetime) -> bool:
        owner = lane["owner"]
        if owner is None or (owner != self.owner and owner.rpartition("/")[0] == self._instance):
            return True
        return bool(owner != self.owner and lane["until"] <= now)

    async def _make(self) -> None:
        if self._made:
            return
        for region in self._regions:
            for number in range(self._lanes):
                await self._ask(
                    "INSERT INTO lanes (service, region, number, epoch) VALUES (%(service)s, %(region)s, %(number)s, 0)"
                    " ON CONFLICT DO NOTHING",
                    {"region": region, "number": number},
                )
        self._made = True

    async def _enter(self, now: datetime) -> None:
        """Say that this process lives; StoreError when another has begun under its name meanwhile."""
        mine = "" if not self._entered else " WHERE instances.owner = %(owner)s"
        values = {"name": self._instance, "owner": self.owner, "until": now + self._lease}
        found = await self._ask(
            "INSERT INTO instances (service, name, owner, until) VALUES (%(service)s, %(name)s, %(owner)s, %(until)s)"  # noqa: S608 - our own words
            " ON CONFLICT (service, name) DO UPDATE SET owner = %(owner)s, until = %(until)s"
            + mine
            + " RETURNING owner",
            values,
        )
        if not found:
            raise StoreError(f"another process has begun under the name {self._instance}")
        self._entered = True

    async def _take(self, lane: Row, now: datetime) -> Row | None:
        """The lane, or None where another was quicker or a transaction holds it: one lane does not keep the others."""
        try:
            found = await self._ask(
                f"UPDATE lanes SET owner = %(owner)s, epoch = epoch + 1, until = %(later)s WHERE {LANE} RETURNING *",  # noqa: S608
                lane | {"owner": self.owner, "later": now + self._lease},
            )
        except (StoreError, TimeoutError) as error:
            logger.warning("a lane could not be taken", extra={"lane": lane["number"], "reason": str(error)})
            return None
        return found[0] if found else None

    async def _free(self, lane: Row) -> None:
        await self._ask(f"UPDATE lanes SET owner = NULL, epoch = epoch + 1 WHERE {LANE}", lane)  # noqa: S608

    def _lane(self, row: Row) -> Lane:
        names = ("region", "number", "epoch", "position", "position_at", "replay_from")
        return Lane(self._service, *(row[name] for name in names))

    async def _tidy(self, now: datetime) -> None:
        """Take away instances that are gone, and, now and then, what nobody asks for any more."""
        await self._ask("DELETE FROM instances WHERE service = %(service)s AND until <= %(now)s", {"now": now})
        self._beats += 1
        if self._beats % TIDY == 0:
            await self._ask("DELETE FROM commits WHERE at < %(long_ago)s", {"long_ago": now - KEPT})

    async def give_back(self, lanes: Sequence[Lane]) -> None:
        """See `ports.Lanes`."""
        with errors_of_the_store():
            for lane in lanes:
                await self._free({"region": lane.region, "number": lane.number, "epoch": lane.epoch})

    async def ask_replay(self, since: datetime) -> int:
        """See `ports.Lanes`."""
        with errors_of_the_store():
            await self._make()
            query = "UPDATE lanes SET replay_from = %(since)s WHERE service = %(service)s RETURNING number"
            return len(await self._ask(query, {"since": since}))

    async def replayed(self, lane: Lane) -> None:
        """See `ports.Lanes`."""
        key = {"region": lane.region, "number": lane.number, "epoch": lane.epoch, "since": lane.replay_from}
        with errors_of_the_store():
            await self._ask(f"UPDATE lanes SET replay_from = NULL WHERE {LANE} AND replay_from = %(since)s", key)  # noqa: S608

    async def replaying(self) -> int:
        """See `ports.Lanes`."""
        query = "SELECT number FROM lanes WHERE service = %(service)s AND replay_from IS NOT NULL"
        with errors_of_the_store():
            return len(await self._ask(query))

    async def leave(self) -> None:
        """See `ports.Lanes`."""
        with errors_of_the_store():
            key = {"name": self._instance, "owner": self.owner}
            await self._ask(
                "DELETE FROM instances WHERE service = %(service)s AND name = %(name)s AND owner = %(owner)s", key
            )
