"""A service's consumer: it follows the event log and lets each event have its effect once, in order per key.

An instance holds some lanes.  One stream is read for all of them; each lane handles its events one batch after the
other, and a batch's effects, events and position are one transaction that fails if the lane was taken meanwhile.
A batch that cannot be handled is tried event by event, and the event that fails is parked: only its key waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shardmart.tasks import cancel, no_stray_cancellation

from ..domain.events import SCHEMA, TYPES, Event
from ..domain.identifiers import lane_of
from ..ports import EventLog, FencedError, GapError, Lane, Lanes, Store, StoreError, Unit
from ..telemetry import Telemetry, tracing
from .handling import BATCH, WAITS, Handlers, Held, WaitsError, must_be_handled_now, wait_for

QUEUE = 4_000
"""Events held in memory for all lanes; the stream is not read further while there are more."""
OVERLAP = timedelta(minutes=10)
"""How far the clocks of instances may differ, and how long a transaction may take: what is read twice after a gap."""
IDLE = timedelta(seconds=20)
"""How often a lane without events stores how far the log has gone."""
TICK_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 2.0
logger = logging.getLogger(__name__)


class Consumer:
    """See the module.  `run` ends when `stop` was called and what was begun is done."""

    def __init__(
        self,
        handlers: Handlers,
        store: Store,
        log: EventLog,
        lanes: Lanes,
        telemetry: Telemetry,
        *,
        lanes_per_region: int,
        lease_seconds: float,
        acknowledge_first: bool = False,
    ) -> None:
        """`acknowledge_first` is a negative control: the position is stored when events arrive, before their effect."""
        self._handlers, self._store, self._log, self._lanes = handlers, store, log, lanes
        self._telemetry, self._count, self._beat_seconds = telemetry, lanes_per_region, lease_seconds / 3
        self._acknowledge_first = acknowledge_first
        self._held: dict[tuple[str, int], Held] = {}
        self._stopping = asyncio.Event()
        self._reopen = asyncio.Event()
        self._room = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None

    def held(self) -> list[dict[str, Any]]:
        """The lanes this instance holds, for /status."""
        now = datetime.now(UTC)
        return [
            {
                "lane": held.lane.name,
                "epoch": held.lane.epoch,
                "pending": len(held.queue),
                "lag_seconds": round((now - held.queue[0][0].at).total_seconds(), 3)
                if held.queue and held.queue[0][0].at
                else 0.0,
                "parked_keys": len(held.parked),
            }
            for held in self._held.values()
        ]

    def parked(self) -> int:
        """Keys that wait because one of their events is parked, in the lanes of this instance."""
        return sum(len(held.parked) for held in self._held.values())

    def stop(self) -> None:
        """Finish what is in hand, give the lanes back and end."""
        self._stopping.set()

    def nudge(self) -> None:
        """Let every lane look at once for what is due and for parked events that are to be tried again."""
        for held in self._held.values():
            held.next_tick, held.look_at_parked = 0.0, True
            held.wake.set()

    async def run(self) -> None:
        """Hold lanes until stopped."""
        self._stream = asyncio.create_task(self._read_stream())
        try:
            while not self._stopping.is_set():
                try:
                    with no_stray_cancellation():
                        await self._assign(await self._lanes.beat())
                        await self._store_idle_positions()
                except StoreError as error:
                    logger.warning("lanes cannot be renewed", extra={"reason": str(error)})
                except Exception:
                    logger.exception("lanes are renewed again after a mistake")
                await wait_for(self._stopping, self._beat_seconds)
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._stream:
            await cancel(self._stream)
            self._stream = None
        for held in self._held.values():
            held.lost = True
            held.wake.set()
        await asyncio.gather(*(held.task for held in self._held.values() if held.task), return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._lanes.give_back([held.lane for held in self._held.values()])
            await self._lanes.leave()
        self._held.clear()

    async def _assign(self, lanes: Sequence[Lane]) -> None:
        """Begin with lanes that are new here, end with those that are not this instance's any more."""
        now = {(lane.region, lane.number): lane for lane in lanes}
        for key, held in list(self._held.items()):
            lane = now.get(key)
            if held.lost or lane is None or lane.epoch != held.lane.epoch:
                held.lost = True
                held.wake.set()
                if held.task:
                    await held.task
                del self._held[key]
        for key, lane in now.items():
            if key not in self._held:
                held = self._held[key] = Held(lane, seen=lane.position or "")
                held.task = asyncio.create_task(self._work(held), name=f"{lane.service} {lane.name}")
        for key, held in self._held.items():
            held.look_at_parked, held.replay_from = True, now[key].replay_from
            held.wake.set()
        self._telemetry.lanes_held.set(len(self._held))

    async def _store_idle_positions(self) -> None:
        """Lanes where nothing happens move on with the log, or they would fall out of it."""
        for held in list(self._held.values()):
            stored = held.lane.position_at
            is_old = stored is None or datetime.now(UTC) - stored > IDLE
            if is_old and held.ready and not held.queue and not held.busy and held.seen > (held.lane.position or ""):
                held.busy = True
                try:
                    await self._commit(held, [], {}, held.seen)
                except FencedError:
                    held.lost = True
                finally:
                    held.busy = False

    # The stream

    async def _read_stream(self) -> None:
        while True:
            try:
                ready = [held for held in self._held.values() if held.ready and not held.lost]
                with no_stray_cancellation():
                    if ready:
                        await self._follow(ready)
                    else:
                        await self._wait_reopen(0.2)
            except GapError as error:
                logger.warning("the log does not reach back: reading the outbox", extra={"reason": str(error)})
                for place, held in self._held.items():
                    held.streamed = False
                    if held.ready and (error.places is None or place in error.places):
                        since = None if error.from_beginning else held.lane.position_at
                        held.ready, held.lane = False, replace(held.lane, position=None, position_at=since)
                        held.wake.set()
            except StoreError as error:
                logger.warning("the log cannot be read", extra={"reason": str(error)})
                await asyncio.sleep(0.5)
            except Exception:
                logger.exception("the log is read again after a mistake")
                await asyncio.sleep(1)

    async def _wait_reopen(self, seconds: float) -> None:
        await wait_for(self._reopen, seconds)
        self._reopen.clear()

    async def _follow(self, lanes: Sequence[Held]) -> None:
        self._reopen.clear()
        for held in self._held.values():
            # A lane that came later begins where it stopped, and that is not where this stream is.
            held.streamed = held in lanes
        positions = {held.lane.place: held.seen for held in lanes}
        async with contextlib.aclosing(self._log.follow(positions)) as stream:  # type: ignore[type-var]
            async for event, at in stream:
                self._telemetry.stream_read()
                if event is None:
                    for held in self._held.values():
                        held.seen = max(held.seen, at) if held.streamed else held.seen
                else:
                    await self._take(event, at)
                if self._reopen.is_set():
                    return

    async def _take(self, event: Event, at: str) -> None:
        held = self._held.get((event.region, lane_of(event.key, self._count)))
        if held is None or not held.streamed or at <= held.seen:
            return
        held.seen = at
        if not self._is_ours(event):
            return
        held.queue.append((event, at))
        if self._acknowledge_first:
            await self._commit(held, [], {}, at)
        held.wake.set()
        while sum(len(each.queue) for each in self._held.values()) > QUEUE:
            self._room.clear()
            await self._room.wait()

    def _is_ours(self, event: Event) -> bool:
        # One of a schema that is not known may be of a type that is: it waits in the parking place.
        return event.type in self._handlers.types or event.schema != SCHEMA or event.type not in TYPES

    # A lane

    async def _work(self, held: Held) -> None:
        pause = 0.05
        while not held.lost:
            try:
                with no_stray_cancellation():
                    await self._step(held)
                pause = 0.05
            except FencedError as error:
                logger.warning("a lane was taken by another instance", extra={"reason": str(error)})
                held.lost = True
            except StoreError as error:
                # A store so slow that a batch never ends in time takes a smaller one, or nothing would end.
                held.batch = max(1, held.batch // 2)
                logger.warning("the store did not take an effect", extra={"lane": held.lane.name, "reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            except Exception:
                logger.exception("a lane goes on after a mistake", extra={"lane": held.lane.name})
                held.next_tick = time.monotonic() + TICK_SECONDS
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            held.busy = False

    async def _step(self, held: Held) -> None:
        """What is next in a lane."""
        if not held.ready:
            await self._catch_up(held)
        if held.look_at_parked:
            await self._handle_parked(held)
        if time.monotonic() >= held.next_tick:
            held.next_tick = time.monotonic() + TICK_SECONDS
            await self._handlers.tick(held.lane)
            self._tick_soon(held)
        elif held.replay_from is not None:
            await self._replay(held, held.replay_from)
        elif held.queue:
            await self._handle_batch(held)
        else:
            await self._wait(held)

    async def _wait(self, held: Held) -> None:
        held.wake.clear()
        if held.queue or held.lost or held.look_at_parked or held.replay_from:
            return
        await wait_for(held.wake, max(0.01, held.next_tick - time.monotonic()))

    async def _catch_up(self, held: Held) -> None:
        """Give a lane a position: its own, or after reading the outbox the end of the log as it was before that."""
        held.queue.clear()
        if held.lane.position is None:
            end = (await self._log.ends([held.lane.place]))[held.lane.place]
            since = held.lane.position_at - OVERLAP if held.lane.position_at else None
            await self._read_outbox(held, since)
            await self._commit(held, [], {}, end)
            held.seen = end
        held.parked = {parked.event.key for parked in await self._store.parked(held.lane)}
        held.ready = True
        self._reopen.set()

    async def _read_outbox(self, held: Held, since: datetime | None) -> None:
        lane, after = held.lane, ""
        while not held.lost:
            page = await self._log.read(lane.region, lane.number, since, 500, after)
            ours = [event for event in page if self._is_ours(event)]
            size = held.batch
            for start in range(0, len(ours), size):
                await self._handle(held, ours[start : start + size], None)
            if len(page) < 500:
                return
            since, after = page[-1].at, page[-1].id

    async def _handle_batch(self, held: Held) -> None:
        held.busy = True
        batch = [held.queue[i] for i in range(min(held.batch, len(held.queue)))]
        await self._handle(held, [event for event, _ in batch], batch[-1][1])
        held.batch = min(BATCH, 2 * held.batch)
        for _ in batch:
            held.queue.popleft()
        self._room.set()

    async def _handle(self, held: Held, events: list[Event], position: str | None) -> None:
        try:
            must_be_handled_now(events, held.parked)
            with tracing(events[0].trace if len(events) == 1 else ""):
                await self._commit(held, events, await self._handlers.prepare(held.lane, events), position)
        except (StoreError, FencedError):
            raise
        except Exception as error:
            if len(events) == 1:
                reason = str(error) if isinstance(error, WaitsError) else f"{type(error).__name__}: {error}"
                await self._park(held, events[0], reason, position)
                return
            for event in events:
                await self._handle(held, [event], None)
            await self._commit(held, [], {}, position)

    async def _commit(
        self, held: Held, events: Sequence[Event], prepared: Mapping[str, Any], position: str | None
    ) -> None:
        if not events and position is None:
            return

        async def effects(unit: Unit) -> datetime:
            if len(events) > 1:
                await self._handlers.fetch(unit, events)
            for event in events:
                await self._handlers.apply(unit, held.lane, event, prepared.get(event.id))
            return unit.now

        self._stored(held, await self._store.transact(effects, held.lane, position), position)
        for event in events:
            self._telemetry.handled(event)
        self._tick_soon(held)

    def _stored(self, held: Held, now: datetime, position: str | None) -> None:
        if position is not None:
            held.lane = replace(held.lane, position=position, position_at=now)
            self._log.done(held.lane.place, position)

    def _tick_soon(self, held: Held) -> None:
        if (seconds := self._handlers.soon.take(held.lane)) is not None:
            held.next_tick = min(held.next_tick, time.monotonic() + seconds)

    async def _replay(self, held: Held, since: datetime) -> None:
        """Handle once more what the outbox has since then.  Whatever had its effect does not have it again."""
        logger.info("replaying", extra={"lane": held.lane.name, "since": since.isoformat()})
        await self._read_outbox(held, since)
        if not held.lost:
            await self._lanes.replayed(replace(held.lane, replay_from=since))
            held.replay_from = None

    async def _park(self, held: Held, event: Event, reason: str, position: str | None) -> None:
        async def aside(unit: Unit) -> datetime:
            await unit.park(held.lane, event, reason)
            return unit.now

        self._stored(held, await self._store.transact(aside, held.lane, position), position)
        held.parked.add(event.key)
        self._telemetry.events_parked.inc()
        logger.error("an event was parked", extra={"event": event.id, "type": event.type, "reason": reason})

    async def _handle_parked(self, held: Held) -> None:
        """Handle parked events that are to be tried again, each key's in their order, up to the first that fails."""
        held.look_at_parked = False
        if not held.parked:
            return
        parked = await self._store.parked(held.lane)
        stuck: set[str] = set()
        for each in parked:
            event = each.event
            known = event.schema == SCHEMA and event.type in TYPES
            # What waits for newer code goes on by itself once that code is there.
            again = each.again or (known and each.reason.startswith(WAITS))
            if event.key in stuck or not again or not known:
                stuck.add(event.key)
                continue
            try:
                await self._handle_again(held, event)
            except (StoreError, FencedError):
                held.look_at_parked = True
                raise
            except Exception as error:
                stuck.add(event.key)
                logger.warning("a parked event failed again", extra={"event": event.id, "reason": str(error)})
        held.parked = {each.event.key for each in parked} & stuck

    async def _handle_again(self, held: Held, event: Event) -> None:
        prepared = await self._handlers.prepare(held.lane, [event])

        async def effect(unit: Unit) -> None:
            await self._handlers.apply(unit, held.lane, event, prepared.get(event.id))
            await unit.unpark(held.lane, event)

        await self._store.transact(effect, held.lane)
        self._telemetry.handled(event)
