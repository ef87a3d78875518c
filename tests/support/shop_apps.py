"""The apps of all services in this process, as ASGI: on memory, or put together as they are on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from shardmart.shop.adapters.memory import MemoryCarts, MemoryCatalogue, MemoryLanes
from shardmart.shop.services.carts import Carts
from shardmart.shop.services.catalogue import CachedStocks, Catalogue
from shardmart.shop.services.provider import Operation, ProviderLedger
from shardmart.shop.settings import Settings
from shardmart.shop.web import (
    cart_api,
    catalogue_api,
    events_api,
    inventory_api,
    order_api,
    payment_api,
    provider_api,
    stream_api,
)
from shardmart.shop.web.app import Instance, build
from shardmart.shop.web.tokens import issue
from tests.support.shop_in_memory import CUSTOMER, LANES, REGIONS, MemoryShop

KEY, API_KEY, WEBHOOK_SECRET = "k" * 40, "a" * 20, "w" * 20
CONSUMERS = ("order", "inventory", "payment", "notification")
SERVICES = (*CONSUMERS, "catalogue", "provider")
OPERATOR = {"Authorization": f"Bearer {issue([KEY], 'operator', 86_400)}"}
MINE = {"Authorization": f"Bearer {issue([KEY], f'customer:{CUSTOMER}', 86_400)}"}
PROVIDER = {"Authorization": f"Bearer {API_KEY}"}


def settings(**more: Any) -> Settings:
    """Settings of an instance whose callers may ask as often as they like."""
    return Settings.model_validate(
        {"tokens": {"keys": [KEY]}, "limits": {"burst": 10**9, "requests_per_second": 10**9}} | more
    )


class NoWebhooks(provider_api.Webhooks):
    """The provider's webhooks, which nobody takes."""

    def send(self, operation: Operation, times: int) -> asyncio.Future[None]:  # type: ignore[override]
        """Send nothing."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent


class MemoryStocks:
    """See `services.catalogue.Inventory`."""

    def __init__(self, shop: MemoryShop) -> None:
        self._store = shop.store

    async def stocks(self, products: Any) -> dict[str, int] | None:
        return {id_: stock.available for id_, stock in (await self._store.stocks(products)).items()}


def app_in_memory(service: str, shop: MemoryShop, folder: Path, chosen: Settings | None = None) -> FastAPI:
    """The app of one service on the shop's memory.  Its consumer does not run: `shop.running` does that."""
    instance = Instance(service, f"{service}-1", chosen or settings())
    if service != "provider":
        instance.ping = shop.store.ping
    app = build(instance, service.capitalize(), "")
    if service in CONSUMERS:
        lanes = MemoryLanes(shop.memory, service, f"{service}-1", REGIONS, LANES, 10)
        consuming = events_api.Consuming(service, shop.store, shop.log, lanes, REGIONS, LANES, lambda: None)
        events_api.add(app, consuming)
    if service == "order":
        order_api.add(app, shop.store, shop.log, instance.telemetry, REGIONS)
        carts = Carts(MemoryCarts(shop.memory), shop.store, shop.orders)
        cart_api.add(app, carts, shop.store, instance.telemetry, REGIONS)
    elif service == "inventory":
        inventory_api.add(app, shop.store, 5, REGIONS)
    elif service == "payment":
        payment_api.add(app, shop.store, WEBHOOK_SECRET, REGIONS, lambda: None)
    elif service == "notification":
        stream_api.add(app, shop.store, shop.log, stream_api.Broadcast(shop.log, REGIONS, LANES), REGIONS)
    elif service == "catalogue":
        products = MemoryCatalogue(shop.memory)
        catalogue = Catalogue(products, products, CachedStocks(None, MemoryStocks(shop)), 0)
        catalogue_api.add(app, catalogue, MemoryCarts(shop.memory), 0, REGIONS)
    else:
        provider_api.add(app, ProviderLedger(folder), NoWebhooks("http://127.0.0.1:1", WEBHOOK_SECRET), API_KEY)
    return app


def bearer(service: str) -> Mapping[str, str]:
    """Headers of who may do everything at a service."""
    return PROVIDER if service == "provider" else OPERATOR
