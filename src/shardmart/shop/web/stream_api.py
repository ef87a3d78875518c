"""The live stream of events, as server-sent events, and what was sent about an order.

One reading of the log serves everybody who listens.  A connection that was lost goes on by Last-Event-ID, from memory
or from the outbox; an open one ends when the instance stops, and the browser connects to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse

from ..domain.events import Event
from ..domain.identifiers import Customer, OrderId, lane_of
from ..domain.notification import SUBJECTS, Notification
from ..ports import EventLog, GapError, Place, Store, StoreError
from ..services.order import utc
from .answers import OrderPath
from .tokens import AnyCaller, Caller

REMEMBERED = 2_000
WAITING = 1_000
COMMENT_SECONDS = 10.0
LISTENERS = 200
PAGE, MISSED = 500, 10_000
"""Of a region: how many are read at once, and at most, for who comes back to an instance that did not see them."""
LONGEST_AWAY = timedelta(hours=1)
"""Who was away for longer begins an hour ago."""
OVERLAP = timedelta(seconds=2)
"""An event's time is that of its telling, and its transaction ends a little later: what is read begins before `last`.
So an event may come twice after a reconnection, under the same id, and none is left out."""


class Broadcast:
    """The events of now to everybody who listens here."""

    def __init__(self, log: EventLog, regions: Sequence[str], lanes: int) -> None:
        self._log, self._lanes = log, lanes
        self._places = [(region, number) for region in regions for number in range(lanes)]
        self._recent: deque[Event] = deque(maxlen=REMEMBERED)
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        positions: dict[Place, str] = {}
        while True:
            try:
                positions = positions or await self._log.ends(self._places)
                async with contextlib.aclosing(self._log.follow(positions)) as stream:  # type: ignore[type-var]
                    async for event, at in stream:
                        if event is None:
                            positions = {place: max(before, at) for place, before in positions.items()}
                        elif at > positions.get(place := (event.region, lane_of(event.key, self._lanes)), ""):
                            positions[place] = at
                            self._tell(event)
            except GapError:
                positions = {}
            except StoreError:
                await asyncio.sleep(0.5)

    def _tell(self, event: Event) -> None:
        self._recent.append(event)
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # who does not read loses the connection, and comes back with Last-Event-ID
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def must_have_room(self) -> None:
        """503 when too many listen already; asked before an answer begins."""
        if len(self._listeners) >= LISTENERS:
            raise HTTPException(503, "too many live streams on this instance")

    @contextlib.contextmanager
    def listening(self) -> Any:
        """A queue of the events from now on; None ends it."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def since(self, last: str) -> list[Event] | None:
        """What came after event `last`; None if that is not remembered."""
        events = list(self._recent)
        for index, event in enumerate(events):
            if event.id == last:
                return events[index + 1 :]
        return None


def line(event: Event) -> str:
    """An event as a server-sent event."""
    data = {
        "id": event.id,
        "type": event.type,
        "key": event.key,
        "order": event.key if event.producer != "inventory" or "." in event.key else None,
        "region": event.region,
        "at": utc(event.at) if event.at else None,
        "trace": event.trace,
        "data": event.data,
    }
    at = int(event.at.timestamp() * 1000) if event.at else 0
    return f"id: {at}|{event.id}\nevent: {event.type}\ndata: {json.dumps(data)}\n\n"


def add(app: FastAPI, store: Store, log: EventLog, broadcast: Broadcast, regions: Sequence[str]) -> None:
    """Add the endpoints to `app`."""

    @app.get("/stream", summary="What happens to orders, live", response_class=StreamingResponse)
    async def stream(
        request: Request,
        caller: AnyCaller,
        last_event_id: Annotated[str | None, Header(max_length=400)] = None,
    ) -> StreamingResponse:
        broadcast.must_have_room()
        drained: asyncio.Event = request.app.state.drained
        lines = live(log, regions, broadcast, caller, last_event_id, drained)
        return StreamingResponse(
            lines,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @app.get("/notifications/{order}", summary="What somebody was told about an order")
    async def notifications(order: OrderPath, caller: AnyCaller) -> dict[str, Any]:
        id_ = OrderId.parse(order)
        caller.must_be(id_.customer)
        told = [event for event in await log.of_key(id_.region, str(id_)) if event.type in SUBJECTS]
        found = [await store.get(Notification, event.region, event.id) for event in told]
        return {
            "items": [
                {
                    "event": each.id,
                    "type": each.type,
                    "state": each.state,
                    "channels": each.channels,
                    "attempts": each.attempts,
                    "message_id": each.message_id,
                }
                for each in found
                if each is not None
            ]
        }


def _may_see(caller: Caller, event: Event) -> bool:
    return caller.is_operator or (event.customer is not None and event.customer == str(caller.customer))


async def live(
    log: EventLog,
    regions: Sequence[str],
    broadcast: Broadcast,
    caller: Caller,
    last: str | None,
    drained: asyncio.Event,
) -> AsyncIterator[str]:
    """The events that the caller may see: those after `last`, then those of now, until `drained` is set.

    It listens before it reads what was missed, so that nothing falls in between.  When the outbox cannot be read it
    ends, and the caller comes back with the same Last-Event-ID.
    """
    with broadcast.listening() as queue:
        yield "retry: 1000\n\n"
        try:
            missed = await _missed(log, regions, broadcast, caller, last) if last else []
        except StoreError:
            return
        seen = {event.id for event in missed}
        for event in missed:
            yield line(event)
        stop = asyncio.ensure_future(drained.wait())
        try:
            while not drained.is_set():
                get = asyncio.ensure_future(queue.get())
                done, _ = await asyncio.wait({get, stop}, timeout=COMMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if get not in done:
                    get.cancel()
                    if not done:
                        yield ": still here\n\n"
                    continue
                event = get.result()
                if event is None:
                    return
                if event.id not in seen and _may_see(caller, event):
                    yield line(event)
        finally:
            stop.cancel()


async def _missed(
    log: EventLog, regions: Sequence[str], broadcast: Broadcast, caller: Caller, last: str
) -> list[Event]:
    """What came after `last`: from memory, else from the outbox, at least once and by time."""
    at, _, id_ = last.partition("|")
    remembered = broadcast.since(id_)
    if remembered is not None:
        return [event for event in remembered if _may_see(caller, event)]
    if not (at.isascii() and at.isdigit() and len(at) < 15):
        return []
    now = datetime.now(UTC)
    since = max(datetime.fromtimestamp(int(at) / 1000, UTC) - OVERLAP, now - LONGEST_AWAY)
    found: list[Event] = []
    for region in (caller.customer.region,) if isinstance(caller.customer, Customer) else regions:
        found += await _read(log, region, since)
    return sorted(
        (event for event in found if event.id != id_ and _may_see(caller, event)), key=lambda e: (e.at or now, e.id)
    )


async def _read(log: EventLog, region: str, since: datetime) -> list[Event]:
    """A region's events since then, a bounded number."""
    found: list[Event] = []
    after = ""
    while len(found) < MISSED:
        page = await log.read(region, None, since, PAGE, after)
        found += page
        if len(page) < PAGE or page[-1].at is None:
            break
        since, after = page[-1].at, page[-1].id
    return found
