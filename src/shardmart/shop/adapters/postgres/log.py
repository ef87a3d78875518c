"""The event log on PostgreSQL: the outbox itself, read in the order in which it was committed.

Each place counts its events under a lock that a transaction holds to its end (`unit.write_events`), so numbers are
committed in their order and without a gap: nothing with a smaller number comes later.  A position is such a number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from ...domain.events import Event
from ...ports import GapError, Place
from .connection import Pool, Row
from .errors import errors_of_the_store
from .rows import EVENT_COLUMNS, event_of, place_of

POSITION = re.compile(r"pg:(\d{18})")
AT_ONCE = 500
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1
"""Between two looks at the places: a row for each of them.  Nobody is notified, because PostgreSQL alone does so, and
each NOTIFY waits for those of all others at its COMMIT."""
COLUMNS = f"SELECT logged, {', '.join(EVENT_COLUMNS)} FROM events"  # noqa: S608 - our own names


def position_of(number: int) -> str:
    """The position after that many events.  Positions compare as text."""
    return f"pg:{number:018d}"


class PostgresLog:
    """See `ports.EventLog`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ends(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `ports.EventLog`."""
        last = await self._last([place_of(*place) for place in places])
        return {place: position_of(last[place_of(*place)]) for place in places}

    async def follow(self, positions: Mapping[Place, str]) -> AsyncIterator[tuple[Event | None, str]]:
        """See `ports.EventLog`."""
        parsed = {place: POSITION.fullmatch(position) for place, position in positions.items()}
        if foreign := [place for place, found in parsed.items() if found is None]:
            raise GapError("the positions are of another log", foreign, from_beginning=True)
        read = {place: int(found[1]) for place, found in parsed.items() if found}
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            last = await self._last([place_of(*place) for place in read])
            behind = [place for place, number in read.items() if last[place_of(*place)] > number]
            if ahead := [place for place, number in read.items() if last[place_of(*place)] < number]:
                raise GapError("the log ends before the position: it is another one", ahead, from_beginning=True)
            for place in behind:
                rows = await self._after(place, read[place])
                if not rows:
                    raise GapError(f"the log has no event {read[place] + 1} of {place_of(*place)}", [place])
                for row in rows:
                    read[place] += 1
                    if row["logged"] != read[place]:
                        raise GapError(f"the log has no event {read[place]} of {place_of(*place)}", [place])
                    yield event_of(row), position_of(read[place])
            if behind:
                pause = SHORTEST_PAUSE_SECONDS
                continue
            yield None, ""
            await asyncio.sleep(pause)  # polling interval
            pause = min(LONGEST_PAUSE_SECONDS, pause * 1.5)

    def done(self, place: Place, position: str) -> None:
        """See `ports.EventLog`: nobody is told."""

    async def read(
        self, region: str, lane: int | None, since: datetime | None, limit: int, after: str = ""
    ) -> list[Event]:
        """See `ports.EventLog`.  Times of a place grow with its numbers."""
        conditions, values = ["region = %s"], list[object]([region])
        if lane is not None:
            conditions.append("place = %s")
            values.append(place_of(region, lane))
        if since is not None:
            conditions.append("(at, id) > (%s, %s)")
            values += [since, after]
        where = " AND ".join(conditions)
        return await self._events(f"{COLUMNS} WHERE {where} ORDER BY at, id LIMIT %s", [*values, limit])

    async def of_key(self, region: str, key: str) -> list[Event]:
        """See `ports.EventLog`."""
        return await self._events(f"{COLUMNS} WHERE region = %s AND key = %s ORDER BY at, id", [region, key])

    async def _last(self, places: Sequence[str]) -> dict[str, int]:
        """The latest number of each place."""
        with errors_of_the_store():
            rows = await self._pool.rows("SELECT place, last FROM event_places WHERE place = ANY(%s)", [list(places)])
        return dict.fromkeys(places, 0) | {row["place"]: row["last"] for row in rows}

    async def _after(self, place: Place, number: int) -> list[Row]:
        query = f"{COLUMNS} WHERE place = %s AND logged > %s ORDER BY logged LIMIT %s"
        with errors_of_the_store():
            return await self._pool.rows(query, [place_of(*place), number, AT_ONCE])

    async def _events(self, query: str, values: Sequence[object]) -> list[Event]:
        with errors_of_the_store():
            return [event_of(row) for row in await self._pool.rows(query, values)]
