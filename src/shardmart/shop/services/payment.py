"""Payments: one charge for an order and its return, with the provider's help."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..domain import events
from ..domain.errors import NotFoundError
from ..domain.events import Event
from ..domain.payment import REFUNDING, WORKING, Payment
from ..ports import Lane, Provider, ProviderAnswer, Store, Unit
from ..saga.handling import Soon
from ..telemetry import TRACE

AT_ONCE = 50


class Payments:
    """The use cases."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, region: str, order: str) -> Payment:
        """The payment of an order; NotFoundError when none was asked for."""
        if (payment := await self._store.get(Payment, region, order)) is None:
            raise NotFoundError("there is no payment of this order")
        return payment

    async def refund_again(self, unit: Unit, region: str, order: str) -> Payment:
        """Ask for a declined refund once more, in the caller's transaction."""
        payment = await unit.get(Payment, region, order)
        if payment is None:
            raise NotFoundError("there is no payment of this order")
        seen = payment.version
        payment.refund_again(unit.now)
        await unit.put(payment, seen)
        return payment

    async def hint(self, region: str, order: str) -> None:
        """The provider says there is news of an order.  One that is not known yet is no mistake: its time comes.

        Most often there is nothing to ask any more, because the charge was answered: that needs no transaction.
        """
        known = await self._store.get(Payment, region, order)
        if known is None or known.state not in WORKING:
            return

        async def hint(unit: Unit) -> None:
            payment = await unit.get(Payment, region, order)
            if payment is not None:
                seen = payment.version
                payment.hint(unit.now)
                if payment.version != seen:
                    await unit.put(payment, seen)

        await self._store.transact(hint)


class PaymentHandlers:
    """What events make of payments.  The provider is asked before the transaction, under a key of the order."""

    types = frozenset({events.PAYMENT_REQUESTED, events.ORDER_CANCELLED})

    def __init__(self, store: Store, provider: Provider) -> None:
        self._store, self._provider = store, provider
        self.soon = Soon()

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """See `Handlers`: charge what is asked for, all at once, but not what is cancelled in the same batch."""
        cancelled = {event.key for event in batch if event.type == events.ORDER_CANCELLED}
        wanted = [e for e in batch if e.type == events.PAYMENT_REQUESTED and e.key not in cancelled]
        known = await self._store.get_many(Payment, lane.region, [event.key for event in wanted])
        asked = [event for event in wanted if event.key not in known]
        answers = await asyncio.gather(*(self._provider.capture(e.key, e.data["amount_cents"], e.trace) for e in asked))
        return {event.id: answer for event, answer in zip(asked, answers, strict=True)}

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """See `Handlers`."""
        await unit.fetch(Payment, batch[0].region, [event.key for event in batch])

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """See `Handlers`."""
        payment = await unit.get(Payment, event.region, event.key) or Payment(event.key, event.region)
        payment.lane = lane.number
        seen = payment.version
        told: list[Event] = []
        if event.type == events.PAYMENT_REQUESTED:
            payment.request(event, unit.now)
            if prepared is not None:
                told = _learn(payment, prepared, unit.now)
        else:
            payment.cancel(event, unit.now)
        if payment.version != seen:
            await unit.put(payment, seen)
            unit.tell(told, event.trace)
        self.soon.note(lane, payment.due_at, unit.now)

    async def tick(self, lane: Lane) -> None:
        """See `Handlers`: ask the provider for what has no answer yet."""
        due = await self._store.due(Payment, lane, AT_ONCE)
        if not due:
            return
        answers = await asyncio.gather(*(self._ask(payment) for payment in due))
        await self._record(lane, list(zip(due, answers, strict=True)))

    async def _ask(self, payment: Payment) -> ProviderAnswer:
        if payment.state == REFUNDING:
            return await self._provider.refund(payment.id, payment.trace)
        return await self._provider.capture(payment.id, payment.amount_cents, payment.trace)

    async def _record(self, lane: Lane, answers: Sequence[tuple[Payment, ProviderAnswer]]) -> None:
        async def record(unit: Unit) -> None:
            await unit.fetch(Payment, lane.region, [asked.id for asked, _ in answers])
            for asked, answer in answers:
                payment = await unit.get(Payment, asked.region, asked.id)
                assert payment
                seen = payment.version
                if payment.state == asked.state:
                    told = _learn(payment, answer, unit.now)
                    if payment.version != seen:
                        await unit.put(payment, seen)
                        unit.tell(told, payment.trace or TRACE.get())
                        self.soon.note(lane, payment.due_at, unit.now)
            if len(answers) == AT_ONCE:
                self.soon.note(lane, unit.now, unit.now)

        await self._store.transact(record, lane)


def _learn(payment: Payment, answer: ProviderAnswer, now: datetime) -> list[Event]:
    if answer.answer is None:
        payment.no_answer(now)
        return []
    return payment.answered(answer.answer, answer.reference, now)
