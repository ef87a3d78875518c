"""One order, placed and followed until it is confirmed and its customer was told: `shardmart shop order`.

A customer of the shop like any other: it speaks HTTP to the services through the load balancer with a customer's token,
which it makes with the key in a service's settings.  Only who there is to order, it asks the store.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shardmart.errors import BadUseError, ShardmartError, UnreachableError

from .domain.events import ORDER_CONFIRMED
from .domain.notification import QUEUED, SENT, SUBJECTS
from .mail.maildir import about
from .settings import Settings
from .web.tokens import issue

POLL_SECONDS = 0.1
ENDED = ("confirmed", "cancelled")
SEED = "seed the database: `make shop` does, on Kubernetes site.yml with the shop's topology"


class OrderFailedError(ShardmartError):
    """The order was not confirmed, or nobody was told in time."""


@dataclass
class Followed:
    """What became of the order; seconds since it was sent."""

    order: str
    total_cents: int
    confirmed_seconds: float = 0.0
    notified_seconds: float = 0.0
    notification: str = ""
    mail: dict[str, Any] | None = None
    """What the customer was sent, where a mail server of this machine took it."""

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def somebody(settings: Settings) -> str:
    """A customer there is, REGION.USER.  UnreachableError when the store does not answer, or has none."""
    if settings.mongodb is None:
        raise BadUseError("these settings have no store to find a customer in: name one, --customer REGION.USER")
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb.uri, serverSelectionTimeoutMS=5000)
    with client:
        try:
            found = client[settings.mongodb.database].users.find_one({"region": settings.mongodb.regions[0]})
        except PyMongoError as error:
            raise UnreachableError(f"the store does not answer: {error}") from None
    if found is None:
        raise UnreachableError(f"the store has no customer: {SEED}")
    return f"{found['region']}.{found['_id']}"


async def follow(settings: Settings, customer: str, *, deadline_seconds: float, say: Callable[[str], None]) -> Followed:
    """Order one piece of a product that is there, as `customer`, and tell each step to `say`.

    OrderFailedError when it is cancelled or not done in time, UnreachableError when a service does not answer.
    """
    token = issue(settings.tokens.keys, f"customer:{customer}", 3600)
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=min(10.0, deadline_seconds))
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            return await _follow(session, settings, deadline_seconds, say)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(f"a service does not answer: {error or type(error).__name__}") from None


async def _follow(
    session: aiohttp.ClientSession, settings: Settings, deadline_seconds: float, say: Callable[[str], None]
) -> Followed:
    urls = settings.urls
    products = await _get(session, f"{urls.catalogue}/api/products?limit=20")
    listed = products if isinstance(products, list) else products.get("items", [])
    product = next((one for one in listed if int(one.get("stock") or 0) > 0), None)
    if product is None:
        raise OrderFailedError(f"the catalogue has no product with stock: {SEED}")
    begun = time.monotonic()
    body = {"items": [{"product_id": str(product["id"]), "quantity": 1}]}
    key = {"Idempotency-Key": str(uuid.uuid4())}
    async with session.post(f"{urls.order}/orders", json=body, headers=key) as answer:
        document = await answer.json(content_type=None)
        if answer.status != 201:
            raise OrderFailedError(f"the order was refused ({answer.status}): {document.get('detail')}")
    found = Followed(str(document["id"]), int(document["total_cents"]))
    say(f"placed     {found.order}: one {product['name']}, {found.total_cents / 100:.2f}")
    while (status := document["status"]) not in ENDED:
        await _or_late(begun, deadline_seconds, f"the order to end, it is {status}")
        document = await _get(session, f"{urls.order}/orders/{found.order}")
    found.confirmed_seconds = round(time.monotonic() - begun, 3)
    if status == "cancelled":
        raise OrderFailedError(f"{found.order} was cancelled: {document.get('reason') or 'no reason was told'}")
    say(f"confirmed  after {found.confirmed_seconds:.2f} s: stock reserved, payment captured")
    while True:
        told = (await _get(session, f"{urls.notification}/notifications/{found.order}"))["items"]
        ended = [one for one in told if one["type"] == ORDER_CONFIRMED and one["state"] != QUEUED]
        if ended:
            found.notification = str(ended[0]["state"])
            break
        await _or_late(begun, deadline_seconds, "the customer to be told")
    found.notified_seconds = round(time.monotonic() - begun, 3)
    say(f"notified   after {found.notified_seconds:.2f} s ({found.notification})")
    if settings.mailbox and found.notification == SENT:
        letters = await asyncio.to_thread(about, settings.mailbox, found.order)
        letter = next((one for one in letters if one.subject == SUBJECTS[ORDER_CONFIRMED]), None)
        if letter is None:
            raise OrderFailedError(f"the e-mail about {found.order} was sent, and {settings.mailbox} has none")
        found.mail = letter.as_document()
        say(f"e-mail     to {letter.to}, Message-ID {letter.message_id}")
        for line in letter.text.splitlines():
            say(f"           | {line}")
    return found


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        document = await answer.json(content_type=None)
        if answer.status != 200:
            raise OrderFailedError(f"{url} answered {answer.status}: {document.get('detail')}")
        return document


async def _or_late(begun: float, deadline_seconds: float, awaited: str) -> None:
    if time.monotonic() - begun > deadline_seconds:
        raise OrderFailedError(f"waited {deadline_seconds:g} s for {awaited}")
    await asyncio.sleep(POLL_SECONDS)
