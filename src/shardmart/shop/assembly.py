"""Puts an instance together: the only place that knows which adapter fills which port.

A service imports what it needs when it is put together, and so no instance holds the drivers of another.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from pymongo.errors import PyMongoError

from shardmart.errors import BadUseError, RefusedError

from .adapters.mongodb import client as mongodb
from .adapters.mongodb.lanes import MongoLanes
from .adapters.mongodb.log import MongoLog
from .adapters.mongodb.mark import LEFT, MOVED, StoreMark
from .adapters.mongodb.presence import Presence
from .adapters.mongodb.store import MongoStore
from .ports import Cache, CartStore, Channel, EventLog, Lanes, Store, StoreError
from .saga.consumer import Consumer
from .saga.handling import Handlers
from .settings import Kafka, MongoDB, Places, Postgres, Provider, Relational, Settings
from .web import events_api
from .web.app import Instance, build

if TYPE_CHECKING:
    from .services.catalogue import Catalogue

Parts = tuple[Store, EventLog, Callable[[str], Lanes]]
"""A store, its outbox, and the lanes of a service in it."""
NO_OPERATOR = "operator@shop.example"
LOOK_SECONDS = 1.0
"""How long an instance that starts waits for a cluster that does not answer, before it starts all the same."""


class Stores:
    """The store of an instance, its events and lanes, and the cluster where it uses that, too."""

    def __init__(self, instance: Instance) -> None:
        settings = instance.settings
        self.options: Places = settings.store or _mongodb(settings)
        self._cluster: mongodb.Database | None = None
        self.store, self.outbox, self._lanes = (
            _on_postgres(instance, settings.store) if settings.store else self._on_mongodb(instance)
        )
        self.log: EventLog = self.outbox
        instance.ping = self.store.ping
        if settings.kafka:
            self._follow_on_kafka(instance, settings.kafka)

    def database(self, instance: Instance) -> mongodb.Database:
        """The cluster's database, connected to when it is first asked for."""
        if self._cluster is None:
            options = _mongodb(instance.settings)
            client = mongodb.connect(options.uri, instance.settings.limits.store_seconds, instance.service)
            self._cluster = mongodb.database(client, options.database)
            instance.closing.append(client.close)
        return self._cluster

    def _on_mongodb(self, instance: Instance) -> Parts:
        options, seconds, lease = self.options, instance.settings.limits.store_seconds, instance.settings.lease_seconds
        database = self.database(instance)
        # Has the sessions of all transactions of this process; who relays is present under another name.
        own = Presence(database, instance.service, instance.name, options.regions[0], lease)
        # The catalogue keeps nothing in the store, and stays with the cluster when that is moved.
        mark = StoreMark(database, options.regions) if instance.service != "catalogue" else None
        store = MongoStore(
            database.client,
            database,
            options.lanes_per_region,
            seconds=seconds,
            lease_seconds=lease,
            presence=own,
            mark=mark,
            events_later="outbox-outside-transaction" in instance.settings.faults,
        )

        def lanes(service: str) -> Lanes:
            presence = own if service == instance.service else None
            return MongoLanes(
                database, service, instance.name, options.regions, options.lanes_per_region, lease, presence, mark
            )

        return store, MongoLog(database), lanes

    def _follow_on_kafka(self, instance: Instance, kafka: Kafka) -> None:
        """Events are followed on Kafka; the order service brings them there."""
        from .adapters.kafka.log import KafkaLog
        from .adapters.kafka.publisher import KafkaPublisher
        from .adapters.kafka.records import Partitions
        from .adapters.kafka.topic import Topic
        from .saga.relay import SERVICE, RelayHandlers

        partitions = Partitions(self.options.regions, self.options.lanes_per_region)
        topic = Topic(kafka, len(partitions), instance.name)
        instance.closing.append(topic.close)
        self.log = KafkaLog(topic, partitions, self.outbox, f"shop-{instance.service}")
        if instance.service != "order":
            return
        unacknowledged = "relay-without-acknowledgement" in instance.settings.faults
        publisher = KafkaPublisher(topic, partitions, unacknowledged=unacknowledged)
        instance.closing.insert(0, publisher.close)
        lanes = self._lanes(SERVICE)
        instance.relay = Consumer(
            RelayHandlers(publisher, lanes),
            self.store,
            self.outbox,
            lanes,
            instance.telemetry.beside(SERVICE),
            lanes_per_region=self.options.lanes_per_region,
            lease_seconds=instance.settings.lease_seconds,
        )

    def consume(self, instance: Instance, handlers: Handlers, app: FastAPI) -> None:
        """Let `handlers` have the events."""
        options, lease = self.options, instance.settings.lease_seconds
        lanes = self._lanes(instance.service)
        instance.consumer = consumer = Consumer(
            handlers,
            self.store,
            self.log,
            lanes,
            instance.telemetry,
            lanes_per_region=options.lanes_per_region,
            lease_seconds=lease,
            acknowledge_first="acknowledge-before-effect" in instance.settings.faults,
        )
        events_api.add(
            app,
            events_api.Consuming(
                instance.service,
                self.store,
                self.log,
                lanes,
                options.regions,
                options.lanes_per_region,
                consumer.nudge,
            ),
        )


def _on_postgres(instance: Instance, options: Relational) -> Parts:
    from .adapters.postgres.lanes import PostgresLanes
    from .adapters.postgres.log import PostgresLog
    from .adapters.postgres.store import PostgresStore, pool_of

    seconds, lease = instance.settings.limits.store_seconds, instance.settings.lease_seconds
    pool = pool_of(options, instance.service, seconds)
    instance.closing.append(pool.close)
    store = PostgresStore(
        pool,
        options.lanes_per_region,
        seconds=seconds,
        lease_seconds=lease,
        events_later="outbox-outside-transaction" in instance.settings.faults,
    )

    def lanes(service: str) -> Lanes:
        return PostgresLanes(pool, service, instance.name, options.regions, options.lanes_per_region, lease)

    return store, PostgresLog(pool), lanes


def assemble(service: str, settings: Settings, name: str) -> FastAPI:
    """The app of an instance.  BadUseError for a key that the service needs and the file does not have."""
    if service == "console":
        try:
            console = importlib.import_module("shardmart.shop.console.app")
        except ModuleNotFoundError:
            raise BadUseError("this version has no console") from None
        app: FastAPI = console.build(settings, name)
        return app
    made: dict[str, Callable[[Instance], FastAPI]] = {
        "order": _order,
        "inventory": _inventory,
        "payment": _payment,
        "notification": _notification,
        "catalogue": _catalogue,
        "provider": _provider,
    }
    return made[service](Instance(service, name, settings))


async def refuse_a_store_that_was_left(service: str, settings: Settings) -> None:
    """RefusedError when the store that these settings name is the shop's no more.

    Whether it is can not be asked of a store that is away: an instance waits for it, and then is never ready.
    """
    if service in ("catalogue", "provider", "console") or settings.store or settings.mongodb is None:
        return
    async with mongodb.connect(settings.mongodb.uri, LOOK_SECONDS, service) as client:
        database = mongodb.database(client, settings.mongodb.database)
        with suppress(PyMongoError, StoreError):
            if await StoreMark(database, settings.mongodb.regions).state() == MOVED:
                raise RefusedError(LEFT)


def _order(instance: Instance) -> FastAPI:
    from .services.carts import Carts
    from .services.order import OrderHandlers, Orders
    from .web import cart_api, order_api

    app = build(instance, "Orders", "Places, changes and cancels orders. Money is in cents.")
    stores = Stores(instance)
    stores.consume(instance, OrderHandlers(), app)
    order_api.add(app, stores.store, stores.log, instance.telemetry, stores.options.regions)
    carts = Carts(_carts(instance, stores, tends=True), stores.store, Orders(stores.store))
    cart_api.add(app, carts, stores.store, instance.telemetry, stores.options.regions)
    return app


def _carts(instance: Instance, stores: Stores, *, tends: bool) -> CartStore:
    """Where carts are: on the ring, if the file has one."""
    settings = instance.settings
    if settings.ring_settings is None:
        from .adapters.mongodb.carts import MongoCarts

        return MongoCarts(stores.database(instance), settings.limits.store_seconds)
    from .adapters.ring_carts import RingCartStore

    ring = RingCartStore(settings.ring_settings, tends=tends)
    instance.tasks.append(ring.open)
    instance.closing.append(ring.close)
    return ring


def _inventory(instance: Instance) -> FastAPI:
    from .services.inventory import CacheKeeper, InventoryHandlers
    from .web import inventory_api

    app = build(instance, "Inventory", "Stock of products and the reservations of orders.")
    stores, settings = Stores(instance), instance.settings
    handlers = InventoryHandlers(stores.store, settings.low_stock_threshold, settings.reservation_seconds)
    stores.consume(instance, handlers, app)
    if cache := _cache(instance):
        keeper = CacheKeeper(stores.store, cache)
        instance.tasks.append(keeper.run)
        instance.cache_is_away = lambda: keeper.away
        app.state.rebuild.append(keeper.refill)
    inventory_api.add(app, stores.store, settings.low_stock_threshold, stores.options.regions)
    return app


def _payment(instance: Instance) -> FastAPI:
    from .adapters.provider_client import HttpProvider
    from .services.payment import PaymentHandlers
    from .web import payment_api

    app = build(instance, "Payment", "One charge for an order, and its return.")
    stores, options = Stores(instance), _provider_options(instance.settings)
    provider = HttpProvider(
        options.url,
        options.api_key,
        options.timeout_seconds,
        without_keys="charge-without-idempotency" in instance.settings.faults,
    )
    instance.closing.append(provider.close)
    stores.consume(instance, PaymentHandlers(stores.store, provider), app)
    assert instance.consumer
    payment_api.add(app, stores.store, options.webhook_secret, stores.options.regions, instance.consumer.nudge)
    return app


def _notification(instance: Instance) -> FastAPI:
    from .services.notification import NotificationHandlers
    from .web import stream_api

    app = build(instance, "Notification", "Tells customers and operators what happened: mail, webhook, live stream.")
    stores, settings = Stores(instance), instance.settings
    channels: list[Channel] = []
    if settings.smtp:
        from .adapters.mail import MailChannel

        channels.append(MailChannel(settings.smtp))
    if settings.webhook:
        from .adapters.webhook import WebhookChannel

        channels.append(WebhookChannel(settings.webhook.url, settings.webhook.secret))
    operator = settings.smtp.operator if settings.smtp else NO_OPERATOR
    stores.consume(instance, NotificationHandlers(stores.store, channels, operator), app)
    options = stores.options
    broadcast = stream_api.Broadcast(stores.log, options.regions, options.lanes_per_region)
    instance.tasks.append(broadcast.run)
    stream_api.add(app, stores.store, stores.log, broadcast, options.regions)
    return app


def _catalogue(instance: Instance) -> FastAPI:
    from .adapters.mongodb.catalogue import MongoCatalogue
    from .services.catalogue import CachedStocks, Catalogue
    from .web import catalogue_api

    app = build(instance, "Catalogue", "Products with metadata and stock.")
    stores, settings = Stores(instance), instance.settings
    if settings.postgres:
        catalogue = _polyglot(instance, stores, settings.postgres)
    else:
        from .adapters.inventory_client import HttpInventory

        inventory = HttpInventory(settings.urls.inventory)
        instance.closing.append(inventory.close)
        stocks = CachedStocks(_cache(instance), inventory)
        mongo = MongoCatalogue(stores.database(instance))
        catalogue = Catalogue(mongo, mongo, stocks, settings.catalogue_fresh_seconds)
    carts = _carts(instance, stores, tends=False)
    catalogue_api.add(app, catalogue, carts, settings.catalogue_fresh_seconds, stores.options.regions)
    return app


def _polyglot(instance: Instance, stores: Stores, options: Postgres) -> Catalogue:
    """Products from PostgreSQL, metadata from MongoDB, stock from Redis, each behind its circuit."""
    from .adapters.mongodb.catalogue import MongoCatalogue
    from .adapters.postgres.catalogue import PostgresCatalogue
    from .adapters.postgres.connection import Pool
    from .adapters.redis_cache import RedisStocks
    from .services.catalogue import SOURCES, Catalogue
    from .services.circuit import Circuit

    settings, seconds = instance.settings, instance.settings.source_seconds
    if settings.redis_url is None:
        raise BadUseError("`postgres` is there, so stock is read from Redis, and the file has no `redis_url`")
    pool, stocks, watcher = Pool(options), RedisStocks(settings.redis_url, seconds), instance.telemetry.sources()
    instance.closing += [pool.close, stocks.close]
    catalogue = Catalogue(
        PostgresCatalogue(pool),
        MongoCatalogue(stores.database(instance), seconds),
        stocks,
        settings.catalogue_fresh_seconds,
        {source: Circuit(source, seconds, watcher) for source in SOURCES},
        watcher,
    )
    # With one source away it still serves: only the load balancer's answer to all of them would serve nobody.
    instance.ping, instance.sources_away = catalogue.ping, catalogue.away
    return catalogue


def _provider(instance: Instance) -> FastAPI:
    from .services.provider import ProviderLedger
    from .web import provider_api

    app = build(instance, "Payment provider", "A simulated payment provider with a ledger of its own.")
    options = _provider_options(instance.settings)
    ledger = ProviderLedger(instance.settings.data_folder or Path("provider"))
    webhooks = provider_api.Webhooks(f"{instance.settings.urls.payment}/webhooks/provider", options.webhook_secret)
    instance.closing.append(webhooks.close)
    provider_api.add(app, ledger, webhooks, options.api_key)
    return app


def _mongodb(settings: Settings) -> MongoDB:
    if settings.mongodb is None:
        raise BadUseError("the file has no `mongodb`")
    return settings.mongodb


def _provider_options(settings: Settings) -> Provider:
    if settings.provider is None:
        raise BadUseError("the file has no `provider`")
    return settings.provider


def _cache(instance: Instance) -> Cache | None:
    settings = instance.settings
    if settings.cache == "memory":
        return None
    if settings.redis_url is None:
        raise BadUseError(f"`cache` is {settings.cache} and the file has no `redis_url`")
    if settings.cache == "redis":
        from .adapters.redis_cache import RedisCache

        return RedisCache(settings.redis_url)
    from .adapters.redis_cluster import RedisClusterCache

    cluster = RedisClusterCache(settings.redis_url)
    instance.closing.append(cluster.close)
    return cluster
