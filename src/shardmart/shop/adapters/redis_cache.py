"""The copy of stocks in Redis: `stock:<product>` = pieces, beside it the version, so that no older value replaces it.

It is asked with short limits; when it is away it knows nothing, and says so only in the log and in metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..domain.stock import Stock
from ..ports import StoreError

COMPLETE = "stock:complete"
# KEYS: value, version … ARGV: value, version …
PUT = """
for i = 1, #KEYS, 2 do
  local known = redis.call('GET', KEYS[i + 1])
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('SET', KEYS[i], ARGV[i])
    redis.call('SET', KEYS[i + 1], ARGV[i + 1])
  end
end
return 1
"""
# KEYS: value, version …  ARGV: value …  Whoever wrote a version before knows better.
_ADD = """
local added = 0
for i = 1, #KEYS, 2 do
  if redis.call('SETNX', KEYS[i + 1], 0) == 1 then
    redis.call('SET', KEYS[i], ARGV[(i + 1) / 2])
    added = added + 1
  end
end
return added
"""
logger = logging.getLogger(__name__)


class RedisCache:
    """See `ports.Cache`."""

    def __init__(self, url: str, seconds: float = 0.5) -> None:
        self._redis: Any = Redis.from_url(
            url, decode_responses=True, socket_timeout=seconds, socket_connect_timeout=seconds
        )
        self._put = self._redis.register_script(PUT)

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """See `ports.Cache`."""
        if not products:
            return {}
        try:
            values = await self._redis.mget([f"stock:{product}" for product in products])
        except (RedisError, OSError) as error:
            logger.warning("the cache does not answer", extra={"reason": type(error).__name__})
            return {}
        return {p: int(value) for p, value in zip(products, values, strict=True) if value is not None}

    async def put(self, stocks: Sequence[Stock]) -> bool:
        """See `ports.Cache`."""
        if not stocks:
            return await self._is_there()
        keys = [key for stock in stocks for key in (f"stock:{stock.id}", f"stock-version:{stock.id}")]
        values = [value for stock in stocks for value in (stock.available, stock.version)]
        try:
            await self._put(keys=keys, args=values)
        except (RedisError, OSError) as error:
            logger.warning("the cache does not answer", extra={"reason": type(error).__name__})
            return False
        return True

    async def is_complete(self) -> bool:
        """See `ports.Cache`."""
        try:
            return bool(await self._redis.exists(COMPLETE))
        except (RedisError, OSError):
            return False

    async def mark_complete(self) -> None:
        """See `ports.Cache`."""
        try:
            await self._redis.set(COMPLETE, "1")
        except (RedisError, OSError):
            return

    async def hint(self, channel: str, message: str) -> None:
        """See `ports.Cache`."""
        try:
            await self._redis.publish(channel, message)
        except (RedisError, OSError):
            return

    async def _is_there(self) -> bool:
        try:
            return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False


class RedisStocks:
    """Stock from Redis alone: one MGET for all products of a page, and the seeder's way to fill it."""

    def __init__(self, url: str, seconds: float = 0.5) -> None:
        self._redis: Any = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            # Once and at once: a kept connection may have died with its server.  More is the circuit's to decide.
            retry=Retry(NoBackoff(), 1),
        )

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """Pieces by product, for those it has; StoreError when it is away."""
        values = await self._do("mget", [f"stock:{product}" for product in products])
        return {p: int(value) for p, value in zip(products, values, strict=True) if value is not None}

    async def add(self, stocks: Mapping[str, int]) -> int:
        """Store the first stock (version 0) of products that it has none of; returns how many.  StoreError."""
        keys = [key for product in stocks for key in (f"stock:{product}", f"stock-version:{product}")]
        return int(await self._do("eval", _ADD, len(keys), *keys, *stocks.values()))

    async def count(self) -> int:
        """How many products it knows the stock of.  StoreError."""
        try:
            keys = {key async for key in self._redis.scan_iter("stock:*", count=1000)}
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis: {type(error).__name__}") from error
        return len(keys - {COMPLETE})

    async def ping(self) -> None:
        """StoreError unless it answers."""
        await self._do("ping")

    async def close(self) -> None:
        """Give back its connections."""
        await self._redis.aclose()

    async def _do(self, command: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._redis, command)(*arguments)
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis: {type(error).__name__}") from error
