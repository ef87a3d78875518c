"""Notifications: each event that somebody is told of, once; sent by every channel there is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..domain.events import Event
from ..domain.identifiers import Customer
from ..domain.notification import FOR_OPERATOR, QUEUED, SUBJECTS, Notification
from ..ports import Channel, Lane, Store, StoreError, Unit
from ..saga.handling import Soon

AT_ONCE = 50
logger = logging.getLogger(__name__)


class NotificationHandlers:
    """What events make of notifications."""

    types = frozenset(SUBJECTS)

    def __init__(self, store: Store, channels: Sequence[Channel], operator: str) -> None:
        """`operator` is the mail address of who is told of low stock and declined refunds."""
        self._store, self._channels, self._operator = store, tuple(channels), operator
        self.soon = Soon()

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """See `Handlers`: nothing."""
        return {}

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """See `Handlers`."""
        await unit.fetch(Notification, batch[0].region, [event.id for event in batch])

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """See `Handlers`."""
        if await unit.get(Notification, event.region, event.id) is None:
            notification = Notification(event.id, event.region, lane=lane.number)
            notification.queue(event, [channel.name for channel in self._channels], unit.now)
            await unit.put(notification, 0)
            self.soon.note(lane, notification.due_at, unit.now)

    async def tick(self, lane: Lane) -> None:
        """See `Handlers`: send what is queued."""
        due = await self._store.due(Notification, lane, AT_ONCE)
        if not due:
            return
        results = await asyncio.gather(*(self._send(notification) for notification in due))

        async def record(unit: Unit) -> None:
            await unit.fetch(Notification, lane.region, [each.id for each in due])
            for each, (sent, error) in zip(due, results, strict=True):
                notification = await unit.get(Notification, each.region, each.id)
                if notification is not None and notification.state == QUEUED:
                    seen = notification.version
                    notification.tried(sent, error, unit.now)
                    await unit.put(notification, seen)
                    self.soon.note(lane, notification.due_at, unit.now)
            if len(due) == AT_ONCE:
                self.soon.note(lane, unit.now, unit.now)

        await self._store.transact(record, lane)

    async def _send(self, notification: Notification) -> tuple[set[str], str | None]:
        to: str | None = None
        if notification.type in FOR_OPERATOR:
            to = self._operator
        elif notification.customer:
            customer = Customer.parse(notification.customer)
            try:
                person = await self._store.customer(customer.region, customer.user)
            except StoreError as error:
                return set(), str(error)
            to = person["email"] if person else None
        sent, problems = set(), []
        for channel in self._channels:
            if notification.channels.get(channel.name):
                continue
            try:
                await channel.send(notification, to)
                sent.add(channel.name)
            except Exception as error:  # whatever a mail server or somebody's endpoint does is tried again
                problems.append(f"{channel.name}: {type(error).__name__}")
        if problems:
            logger.warning("a notification was not taken", extra={"event": notification.id, "reason": problems})
        return sent, "; ".join(problems) or None
