"""What all adapters of one shop in memory share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ...domain.cart import CartLine
from ...domain.events import Aggregate, Event
from ...ports import Document, Lane, Parked, StoredAnswer, StoreError

Key = tuple[type[Aggregate], str]
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Memory:
    """What all adapters of one shop share.  `away`: every use raises StoreError.  `clock` is the store's time."""

    products_: dict[str, Document] = field(default_factory=dict)
    metadata: dict[str, Document] = field(default_factory=dict)
    customers: dict[str, Document] = field(default_factory=dict)
    aggregates: dict[Key, Aggregate] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    answers: dict[tuple[str, str], StoredAnswer] = field(default_factory=dict)
    carts: dict[str, dict[str, CartLine]] = field(default_factory=dict)
    parked_: dict[tuple[str, str], tuple[Lane, Parked]] = field(default_factory=dict)
    epochs: dict[tuple[str, str, int], tuple[int, str | None, datetime]] = field(default_factory=dict)
    positions: dict[tuple[str, str, int], tuple[str, datetime]] = field(default_factory=dict)
    replays: dict[tuple[str, str, int], datetime] = field(default_factory=dict)
    instances: dict[tuple[str, str], datetime] = field(default_factory=dict)
    oldest: int = 0
    """Position before which the log has forgotten, as an oplog does; the outbox has it all."""
    away: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def must_be_there(self) -> None:
        """StoreError while it is away."""
        if self.away:
            raise StoreError("away on purpose")
