"""Fills the sources of the catalogue from the products there are: `shardmart shop seed`.

The loader's data set is in `products` of the sharded cluster.  From it each source gets what it lacks: rows in
PostgreSQL, `productmetas` in MongoDB, `stock:<id>` in Redis.  What is there stays as it is, so a second run changes
nothing, and a run that was killed is finished by the next.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from shardmart.errors import BadUseError

from .adapters.mongodb import client as mongodb
from .adapters.mongodb.catalogue import MongoCatalogue
from .ports import StoreError
from .settings import Settings

if TYPE_CHECKING:
    from .adapters.postgres.schema import Seeder
    from .adapters.redis_cache import RedisStocks

BATCH = 500
PROGRESS_SECONDS = 2.0


@dataclass
class Seeded:
    """How many products each source did not have before."""

    read: int = 0
    metadata: int = 0
    products: int = 0
    stock: int = 0

    def as_document(self) -> dict[str, int]:
        """Plain data."""
        return asdict(self) | {"changes": self.changes}

    @property
    def changes(self) -> int:
        """How much was written."""
        return self.metadata + self.products + self.stock


def to_standard_error(line: str) -> None:
    """Progress, beside what the command prints."""
    print(line, file=sys.stderr, flush=True)


async def seed(
    settings: Settings, administrator: str = "", password: str = "", say: Callable[[str], None] = to_standard_error
) -> Seeded:
    """Fill what the settings name; `administrator` of PostgreSQL makes tables and user there.

    BadUseError for settings without MongoDB, or with PostgreSQL and no administrator's password; StoreError when a
    source does not answer: what was written until then stays.
    """
    options = settings.mongodb
    if options is None:
        raise BadUseError("the file has no `mongodb`")
    done, said_at = Seeded(), time.monotonic()
    async with mongodb.connect(options.uri, 10, "seed") as client:
        catalogue = MongoCatalogue(mongodb.database(client, options.database))
        sources = await _others(settings, administrator, password)
        try:
            async for products in catalogue.all_products(BATCH):
                done.read += len(products)
                done.metadata += await catalogue.add_metadata(products)
                if sources:
                    tables, stocks = sources
                    first = {product["id"]: product["stock"] for product in products}
                    rows, pieces = await asyncio.gather(tables.add(products), stocks.add(first))
                    done.products += rows
                    done.stock += pieces
                if time.monotonic() - said_at > PROGRESS_SECONDS:
                    said_at = time.monotonic()
                    say(f"{done.read} products looked at, {done.changes} parts written")
        finally:
            for source in sources or ():
                await source.close()
    return done


async def _others(settings: Settings, administrator: str, password: str) -> tuple[Seeder, RedisStocks] | None:
    """PostgreSQL and Redis, ready to be filled; None where products stay in MongoDB."""
    if settings.postgres is None:
        return None
    if not password:
        raise BadUseError("the catalogue is in PostgreSQL: give --postgres-password-file, its administrator's password")
    if settings.redis_url is None:
        raise BadUseError("`postgres` is there, so stock is read from Redis, and the file has no `redis_url`")
    from .adapters.postgres.schema import Seeder  # drivers that a shop without PostgreSQL need not have
    from .adapters.redis_cache import RedisStocks

    tables, stocks = Seeder(settings.postgres, administrator, password), RedisStocks(settings.redis_url, 10)
    try:
        await tables.prepare()
        await stocks.ping()
    except StoreError:
        await tables.close()
        await stocks.close()
        raise
    return tables, stocks
