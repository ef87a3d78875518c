"""A whole shop in this process: the services' own code on memory adapters, and the provider's real ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from shardmart.shop.adapters.memory import Memory, MemoryLanes, MemoryLog, MemoryStore
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.identifiers import Customer
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.order import Order
from shardmart.shop.domain.payment import Payment, charge_key, refund_key
from shardmart.shop.domain.stock import Reservation, Stock
from shardmart.shop.ports import ProviderAnswer
from shardmart.shop.saga.consumer import Consumer
from shardmart.shop.services.inventory import InventoryHandlers
from shardmart.shop.services.notification import NotificationHandlers
from shardmart.shop.services.order import OrderHandlers, Orders
from shardmart.shop.services.payment import PaymentHandlers
from shardmart.shop.services.provider import ProviderLedger, Rule
from shardmart.shop.telemetry import Telemetry

REGIONS, LANES = ("APJ", "EMEA", "LATAM"), 2
CUSTOMER = Customer("EMEA", "u1")


class LocalProvider:
    """The provider's ledger without HTTP, and the mistakes of its rules."""

    def __init__(self, folder: Path) -> None:
        self.ledger = ProviderLedger(folder)
        self.rules: list[Rule] = []

    async def capture(self, order: str, amount_cents: int, trace: str) -> ProviderAnswer:
        return self._do(charge_key(order), order, amount_cents)

    async def refund(self, order: str, trace: str) -> ProviderAnswer:
        return self._do(refund_key(order), order, None)

    def _do(self, key: str, order: str, amount: int | None) -> ProviderAnswer:
        attempt = self.ledger.attempt(key)
        acts = {rule.action for rule in self.rules if rule.applies(order, attempt)}
        if "fail" in acts:
            return ProviderAnswer(None)
        if amount is None:
            made = self.ledger.refund(key, order, charge_key(order), decline="decline-refund" in acts)
        else:
            made = self.ledger.charge(key, order, amount, decline="decline" in acts)
        if "lose-answer" in acts:
            return ProviderAnswer(None)
        return ProviderAnswer(made.answer, made.reference)  # type: ignore[arg-type]

    def charges(self) -> list[dict[str, Any]]:
        """Charges that took money."""
        return [e for e in self.ledger.entries(0, 10_000) if e["kind"] == "charge" and e["answer"] == "captured"]

    def refunds(self) -> list[dict[str, Any]]:
        """Refunds that gave it back."""
        return [e for e in self.ledger.entries(0, 10_000) if e["answer"] == "refunded"]


class RecordingChannel:
    """A channel that keeps what it was given, and refuses the first `refuse` times."""

    name = "mail"

    def __init__(self) -> None:
        self.sent: list[tuple[str, str | None]] = []
        self.refuse = 0

    async def send(self, notification: Notification, to: str | None) -> None:
        if self.refuse:
            self.refuse -= 1
            raise ConnectionError("no")
        self.sent.append((notification.message_id, to))


class MemoryShop:
    """The services' consumers on one memory."""

    def __init__(self, folder: Path, stock: int = 50, **options: Any) -> None:
        self.memory = Memory()
        self.memory.products_ = {
            name: {"id": name, "name": name, "price_cents": cents, "stock": stock}
            for name, cents in (("tea", 300), ("cup", 1200))
        }
        self.memory.customers = {str(CUSTOMER): {"name": "Ann", "email": "ann@shop.example"}}
        self.store, self.log = MemoryStore(self.memory), MemoryLog(self.memory, LANES)
        self.provider, self.channel = LocalProvider(folder), RecordingChannel()
        self.orders = Orders(self.store)
        self.options = {"reservation_seconds": 900.0, "lease_seconds": 0.3} | options
        self.consumers: list[Consumer] = []
        self._tasks: list[asyncio.Task[None]] = []

    def handlers(self, service: str) -> Any:
        """The handlers of a service."""
        return {
            "order": OrderHandlers,
            "inventory": lambda: InventoryHandlers(self.store, 5, self.options["reservation_seconds"]),
            "payment": lambda: PaymentHandlers(self.store, self.provider),
            "notification": lambda: NotificationHandlers(self.store, [self.channel], "operator@shop.example"),
        }[service]()

    def consumer(self, service: str, instance: str = "1", handlers: Any = None) -> Consumer:
        """A consumer, not running."""
        lanes = MemoryLanes(self.memory, service, instance, REGIONS, LANES, self.options["lease_seconds"])
        return Consumer(
            handlers or self.handlers(service),
            self.store,
            self.log,
            lanes,
            Telemetry(service),
            lanes_per_region=LANES,
            lease_seconds=self.options["lease_seconds"],
        )

    def start(self, consumer: Consumer) -> asyncio.Task[None]:
        """Let a consumer run."""
        self.consumers.append(consumer)
        self._tasks.append(asyncio.create_task(consumer.run()))
        return self._tasks[-1]

    @contextlib.asynccontextmanager
    async def running(self, *services: str) -> AsyncIterator[None]:
        """Consumers of these services (all) during the block."""
        for service in services or ("order", "inventory", "payment", "notification"):
            self.start(self.consumer(service))
        try:
            yield
        finally:
            for consumer in self.consumers:
                consumer.stop()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def place(self, **pieces: int) -> str:
        """Place an order; returns its id."""
        lines = await self.orders.priced(CUSTOMER, list(pieces.items()))
        order = await self.store.transact(lambda unit: self.orders.place(unit, CUSTOMER, lines, None))
        return order.id

    async def cancel(self, order: str) -> None:
        """Cancel an order."""
        from shardmart.shop.domain.identifiers import OrderId

        await self.store.transact(lambda unit: self.orders.cancel(unit, OrderId.parse(order)))

    def get(self, kind: Any, id_: str) -> Any:
        """An aggregate as it is now."""
        return self.memory.aggregates.get((kind, id_))

    def stock(self, product: str) -> int:
        """Pieces that can be sold."""
        found = self.get(Stock, product)
        return found.available if found else self.memory.products_[product]["stock"]

    def order(self, id_: str) -> Order:
        """An order as it is now."""
        found: Order = self.get(Order, id_)
        return found

    def payment(self, id_: str) -> Payment | None:
        """A payment as it is now."""
        found: Payment | None = self.get(Payment, id_)
        return found

    def reservation(self, id_: str) -> Reservation | None:
        """A reservation as it is now."""
        found: Reservation | None = self.get(Reservation, id_)
        return found

    def told(self, id_: str) -> list[str]:
        """Types of the events of an order."""
        return [event.type for event in self.memory.events if event.key == id_]

    def event(self, id_: str, kind: str) -> Event:
        """The only event of a type of an order."""
        (found,) = [event for event in self.memory.events if event.key == id_ and event.type == kind]
        return found


def run(body: Coroutine[Any, Any, None]) -> None:
    """Run the body of a test; it may take two minutes."""
    asyncio.run(asyncio.wait_for(body, 120))


async def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """What `condition` returns once it is true; AssertionError with `what`."""
    async with asyncio.timeout(seconds) as bound:
        try:
            while not (found := condition()):  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            if bound.expired():
                raise AssertionError(f"waited {seconds} s for {what}") from None
            raise
        return found
