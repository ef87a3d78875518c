"""Every endpoint asks the shards that have what it is about, and no other, and none of them reads a whole collection.

Each endpoint is called once on a sharded cluster; every command that it sends to the store is explained there.
"""

from __future__ import annotations

import contextvars
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo.monitoring
import pytest
from fastapi.routing import APIRoute

from shardmart.shop.adapters.mongodb import client as mongodb
from shardmart.shop.adapters.signature import signature
from shardmart.shop.assembly import assemble
from shardmart.shop.domain import events
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.payment import REFUND_DECLINED, Payment
from shardmart.shop.domain.stock import HELD, Reservation
from tests.support.asgi import AsgiClient
from tests.support.clusters import EmbeddedCluster
from tests.support.shop_apps import API_KEY, OPERATOR, WEBHOOK_SECRET, settings
from tests.support.shop_stores import MongoKit, now

pytestmark = pytest.mark.full  # it passed in CI's time before carts were added to it, and was not run with them
Document = dict[str, Any]
SERVICES = ("order", "inventory", "payment", "notification", "catalogue")
SHARDS_OF = {"APJ": 1, "LATAM": 1, "EMEA": 2}
"""By the zones: EMEA is on both shards."""
PRODUCT = "p1"
ABOUT_ALL = {
    "GET /summary": "counts all orders",
    "GET /api/products": "a page of all products",
    "GET /stock low": "what is low, whatever it is",
}
"""Endpoints that ask every shard, and why."""
NOT_FOR_CALLERS = {"/healthz", "/readyz", "/metrics", "/status", "/openapi.json"}
"""They ask nothing of the store, or whether it answers."""
STREAM = "GET /stream"
"""Follows the event log, which lies on every shard."""

ENDPOINT: contextvars.ContextVar[str | None] = contextvars.ContextVar("endpoint", default=None)


class Listener(pymongo.monitoring.CommandListener):
    """Keeps what was sent to the store for a request."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Document]] = {}

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        if (endpoint := ENDPOINT.get()) and event.database_name == "ecommerce":
            self.sent.setdefault(endpoint, []).append(dict(event.command))

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None:
        """Nothing."""


class Recorded:
    """An app whose requests say which endpoint they are of."""

    def __init__(self, app: Any) -> None:
        self._app, self.endpoint = app, ""

    async def __call__(self, *call: Any) -> None:
        ENDPOINT.set(self.endpoint)
        await self._app(*call)


def keeping(kept: list[mongodb.Client], connect: Callable[..., mongodb.Client]) -> Callable[..., mongodb.Client]:
    """`connect`, with what it made put into `kept`."""

    def connected(*arguments: Any) -> mongodb.Client:
        kept.append(connect(*arguments))
        return kept[-1]

    return connected


class Callers:
    """Asks the apps of all services, put together as they are in production; nothing runs but requests."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.routes: set[str] = set()
        self._apps: dict[str, tuple[Recorded, AsgiClient]] = {}
        self._connections: list[tuple[AsgiClient, mongodb.Client]] = []
        for service in SERVICES:
            more: Document = {"mongodb": {"uri": cluster.uri(f"shop-{service}")}}
            provider = {"url": "http://127.0.0.1:1", "api_key": API_KEY, "webhook_secret": WEBHOOK_SECRET}
            connections: list[mongodb.Client] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(mongodb, "connect", keeping(connections, mongodb.connect))
                app = assemble(service, settings(**more, provider=provider, catalogue_fresh_seconds=0), f"{service}-1")
            for route in app.routes:
                if isinstance(route, APIRoute) and route.path not in NOT_FOR_CALLERS:
                    self.routes |= {f"{method} {route.path}" for method in route.methods}
            recorded = Recorded(app)
            self._apps[service] = recorded, (client := AsgiClient(recorded))
            self._connections += [(client, connection) for connection in connections]

    def close(self) -> None:
        """Give back the connections of the apps."""
        for client, connection in self._connections:
            client.run(connection.close())

    def ask(self, service: str, endpoint: str, *, right: int = 200, **places: Any) -> Document:
        """The answer to a request of an operator; `places` fill the path, `query`, `body`, `headers` are as named."""
        method, path = endpoint.split(" ")[:2]
        body, headers = places.pop("body", None), OPERATOR | places.pop("headers", {})
        query = places.pop("query", "")
        recorded, client = self._apps[service]
        recorded.endpoint = endpoint
        given = {"json": body} if body is not None else {}
        if method == "POST":
            headers = {"Idempotency-Key": f"{service}-{method}-{path}"} | headers
        answer = client.request(method, path.format(**places) + query, headers=headers, **given)
        assert answer.status_code == right, f"{endpoint}: {answer.text}"
        document: Document = answer.json() if answer.content else {}
        return document


@pytest.fixture(scope="module")
def sent(cluster: EmbeddedCluster) -> Iterator[dict[str, list[Document]]]:
    """What every endpoint sent to the store, by endpoint."""
    listener = Listener()
    pymongo.monitoring.register(listener)
    kit = MongoKit(cluster.uri())
    order = kit.run(prepare(kit))
    callers = Callers(cluster)
    ask_everything(callers, order)
    assert {" ".join(endpoint.split(" ")[:2]) for endpoint in listener.sent} == callers.routes - {STREAM}
    yield listener.sent
    callers.close()
    kit.close()


async def prepare(kit: MongoKit) -> str:
    """A product with stock, a customer, an order of his with all that services make of it; its id."""
    await kit.add_product(PRODUCT, 100)
    await kit.add_customer("APJ", "u1")
    order = kit.order("APJ", "u1")
    await kit.save(order)
    reservation = Reservation(order.id, "APJ", customer=order.customer, state=HELD, revision=1, pieces={PRODUCT: 2})
    reservation.until, reservation.version = now(), 1
    payment = Payment(order.id, "APJ", customer=order.customer, state=REFUND_DECLINED, amount_cents=600)
    payment.version = 1
    told = Notification(f"{order.id}/order/3", "APJ", customer=order.customer, type=events.ORDER_CONFIRMED)
    told.queue(events.Event(events.ORDER_PLACED, order.id, "APJ", "order", 1, {}), ["mail"], now())
    for aggregate in (reservation, payment, told):
        await kit.save(aggregate)
    return order.id


def ask_everything(callers: Callers, old: str) -> None:
    """Each endpoint of each service; `old` is an order that all services know."""
    ask = callers.ask
    body = {"customer": "APJ.u1", "items": [{"product_id": PRODUCT, "quantity": 1}]}
    placed = ask("order", "POST /orders", right=201, body=body)
    order, etag = placed["id"], f'"{placed["version"]}"'
    first = ask("order", "GET /orders", query="?user=APJ.u1&limit=1")
    ask("order", "GET /orders", query=f"?user=APJ.u1&limit=1&cursor={first['next']}")
    ask("order", "GET /orders/{order}", order=order)
    ask("order", "GET /orders/{order}/events", order=order)
    change = {"items": [{"product_id": PRODUCT, "quantity": 2}]}
    ask("order", "PATCH /orders/{order}", order=order, body=change, headers={"If-Match": etag})
    ask("order", "POST /orders/{order}/cancel", order=order)
    ask("order", "GET /summary")
    cart, line = {"customer": "APJ.u1"}, {"product_id": PRODUCT, "quantity": 1}
    for name in ("one", "two"):
        ask("order", "PUT /carts/{customer}/lines/{line}", line=name, body=line, **cart)
    ask("order", "DELETE /carts/{customer}/lines/{line}", right=204, line="two", **cart)
    ask("order", "GET /carts/{customer}", **cart)
    ask("catalogue", "GET /api/carts/{customer}", **cart)
    ask("order", "POST /carts/{customer}/checkout", right=201, body={}, **cart)
    ask("inventory", "GET /stock low", query="?low=true")
    ask("inventory", "GET /stock", query=f"?ids={PRODUCT}")
    ask("inventory", "GET /stock/{product}", product=PRODUCT)
    ask("inventory", "POST /stock/{product}/restock", product=PRODUCT, body={"quantity": 5})
    ask("inventory", "GET /reservations/{order}", order=old)
    ask("payment", "GET /payments/{order}", order=old)
    ask("payment", "POST /payments/{order}/refund", order=old, right=202)
    news, at = {"order": old}, int(time.time())
    signed = f"t={at},v1={signature(WEBHOOK_SECRET, at, json.dumps(news).encode())}"
    ask("payment", "POST /webhooks/provider", right=202, body=news, headers={"Provider-Signature": signed})
    ask("notification", "GET /notifications/{order}", order=old)
    ask("catalogue", "GET /api/products")
    ask("catalogue", "GET /api/products/{product}", product=PRODUCT)
    for service in ("order", "inventory", "payment", "notification"):
        ask(service, "GET /parked")
        ask(service, "POST /parked/again", right=202, body={})
        ask(service, "GET /replay")
        ask(service, "POST /replay", right=202, body={"from": "beginning"})


STATEMENT = ("find", "aggregate", "count", "distinct", "findAndModify", "update", "delete", "insert")
OF_THE_QUESTION = {
    "filter", "query", "q", "sort", "limit", "projection", "pipeline", "cursor", "update", "u", "updates", "new",
    "upsert", "fields", "hint", "collation",
}  # fmt: skip


def explainable(command: Document) -> Iterator[Document]:
    """The command's statements, one by one, without what belongs to its session."""
    name = next(iter(command))
    if name not in STATEMENT or name == "insert":
        return
    kept = {k: v for k, v in command.items() if k == name or k in OF_THE_QUESTION}
    if name in ("update", "delete"):
        for statement in command[f"{name}s"]:
            yield {name: command[name], f"{name}s": [statement]}
        return
    yield kept


def named(plan: Any, key: str) -> Iterator[Any]:
    """Every value of `key` anywhere in an explanation."""
    if isinstance(plan, dict):
        if key in plan:
            yield plan[key]
        for value in plan.values():
            yield from named(value, key)
    elif isinstance(plan, list):
        for value in plan:
            yield from named(value, key)


def shards_of(plan: Document) -> set[str]:
    """The shards of an explanation; one that passed on what one shard said names none."""
    of_aggregations = {name for each in named(plan, "shards") if isinstance(each, dict) for name in each}
    return set(named(plan, "shardName")) | of_aggregations or {"one"}


def question(command: Document) -> Document:
    """What a command looks for."""
    if "pipeline" in command:
        found: Document = command["pipeline"][0].get("$match", {})
        return found
    statements = command.get("updates") or command.get("deletes") or [command]
    return statements[0].get("q") or statements[0].get("filter") or statements[0].get("query") or {}


def test_every_endpoint_asks_only_the_shards_of_what_it_is_about(
    cluster: EmbeddedCluster, sent: dict[str, list[Document]]
) -> None:
    wrong: list[str] = []
    with cluster.client() as client:
        for endpoint, commands in sent.items():
            asked: set[int] = set()
            for statement in (s for command in commands for s in explainable(command)):
                plan = client["ecommerce"].command("explain", statement, verbosity="queryPlanner")
                names = shards_of(plan)
                asked.add(len(names))
                allowed = SHARDS_OF.get(question(statement).get("region", ""), 1)
                if endpoint not in ABOUT_ALL and not 1 <= len(names) <= allowed:
                    wrong.append(f"{endpoint} asks {sorted(names)}: {statement}")
                if endpoint != "GET /summary" and "COLLSCAN" in set(named(plan, "stage")):
                    wrong.append(f"{endpoint} reads the whole collection: {statement}")
            if endpoint in ABOUT_ALL and max(asked) < 2:
                wrong.append(f"{endpoint} asks no more than a shard: take it from the exceptions")
    assert not wrong, "\n".join(wrong)


def test_what_an_endpoint_writes_names_its_shard_key(cluster: EmbeddedCluster, sent: dict[str, list[Document]]) -> None:
    """An insert cannot be explained: it goes where its shard key says, if it is all there."""
    with cluster.client() as client:
        keys = {c["_id"]: list(c["key"]) for c in client["config"]["collections"].find()}
    inserts = [(e, c) for e, commands in sent.items() for c in commands if next(iter(c)) == "insert"]
    assert {c["insert"] for _, c in inserts} >= {"orders", "events", "idempotency_keys", "stock"}
    for endpoint, command in inserts:
        for document in command["documents"]:
            lacks = [part for part in keys[f"ecommerce.{command['insert']}"] if part not in document]
            assert not lacks, f"{endpoint} writes to {command['insert']} without {lacks}"
