"""Makes the store on PostgreSQL ready: `shardmart shop migrate`.

Tables and users as they are wanted, and what the shop reads of others: products with their first stock, and customers,
as the cluster has them.  What is there stays as it is, so a second run changes nothing, and one that was killed is
finished by the next.  Orders are not moved here: that is `moving`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shardmart.errors import BadUseError

from .adapters.mongodb import client as mongodb
from .adapters.mongodb.catalogue import MongoCatalogue
from .adapters.mongodb.documents import seen_id
from .adapters.postgres.tables import RIGHTS, Administrator
from .seeding import PROGRESS_SECONDS, to_standard_error
from .settings import Settings

BATCH = 500


@dataclass
class Migrated:
    """What was made, and how many products and customers were added."""

    changes: list[str] = field(default_factory=list)
    products: int = 0
    customers: int = 0

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def passwords_in(folder: Path) -> dict[str, str]:
    """User → password, from the files shop-postgres-SERVICE.password.  BadUseError for one that cannot be read."""
    found = {}
    for user in RIGHTS:
        file = folder / f"{user.replace('shop_', 'shop-postgres-')}.password"
        try:
            found[user] = file.read_text().strip()
        except OSError as error:
            raise BadUseError(f"cannot read the password of {user}, {file}: {error.strerror}") from None
    return found


async def migrate(
    settings: Settings, secrets: Path, administrator: str, say: Callable[[str], None] = to_standard_error
) -> Migrated:
    """Have tables, users, products and customers; the administrator's password is shop-postgres.password of `secrets`.

    BadUseError for settings without a store on PostgreSQL or without the cluster; StoreError when one of them does not
    answer.
    """
    if settings.store is None:
        raise BadUseError("these settings have no `store`: what is in MongoDB needs no tables")
    if settings.mongodb is None:
        raise BadUseError("these settings have no `mongodb`, where products and customers are")
    file = secrets / "shop-postgres.password"
    try:
        password = file.read_text().strip()
    except OSError as error:
        raise BadUseError(f"cannot read the administrator's password, {file}: {error.strerror}") from None
    done, store = Migrated(), Administrator(settings.store, administrator, password)
    try:
        await store.prepare(passwords_in(secrets))
        done.changes = store.changes
        async with mongodb.connect(settings.mongodb.uri, 10, "migrate") as client:
            database = mongodb.database(client, settings.mongodb.database)
            said_at = time.monotonic()
            async for products in MongoCatalogue(database).all_products(BATCH):
                done.products += await store.add(products=products)
            with mongodb.errors_of_the_store():
                batch: list[dict[str, Any]] = []
                fields = {"region": 1, "name": 1, "email": 1}
                async for user in database["users"].find({}, fields).batch_size(BATCH):
                    batch.append({**{name: user[name] for name in fields}, "id": seen_id(user["_id"])})
                    if len(batch) == BATCH:
                        done.customers += await store.add(customers=batch)
                        batch = []
                        if time.monotonic() - said_at > PROGRESS_SECONDS:
                            said_at = time.monotonic()
                            say(f"{done.products} products and {done.customers} customers added")
                done.customers += await store.add(customers=batch)
    finally:
        await store.close()
    for name, count in (("products", done.products), ("customers", done.customers)):
        if count:
            done.changes.append(f"add {count} {name}")
    return done
