"""What the console knows: it asks every instance, and follows the live stream of orders.

It reads no document of a store.  Answers of one moment are kept for half a second, so that many readers cost no more
than one.  What does not answer is shown as away, never an error of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..settings import Settings
from ..web.tokens import OPERATOR, issue
from .cluster import ClusterWatch, Set, faults

FRESH_SECONDS = 0.5
ASK_SECONDS = 1.5
RATE_SECONDS = 10.0
ORDERS_SHOWN = 12
TOKEN_SECONDS = 3600.0
RATES = {"order-placed": "placed", "order-confirmed": "confirmed", "order-cancelled": "cancelled"}


@dataclass
class OrderLine:
    """An order on its way: the events seen of it, in order."""

    order: str
    steps: list[str] = field(default_factory=list)
    seen: set[object] = field(default_factory=set)
    """Ids of those events."""


@dataclass(frozen=True)
class Answer:
    """What one instance said of itself; `status` is None when it did not answer."""

    name: str
    url: str
    ready: bool
    reason: str
    status: Mapping[str, Any] | None


@dataclass(frozen=True)
class Picture:
    """Everything the page shows, of one moment."""

    services: Mapping[str, tuple[Answer, ...]]
    by_status: Mapping[str, int] | None
    low: tuple[Mapping[str, Any], ...] | None
    orders: tuple[OrderLine, ...]
    rates: Mapping[str, float]
    streaming: bool
    at: float
    sets: tuple[Set, ...] = ()
    faults: tuple[str, ...] = ()
    """What is broken on purpose just now, a line each."""

    @property
    def problems(self) -> list[str]:
        """A line for each thing that is not well."""
        found = [
            f"{answer.name} {'is away' if answer.status is None else 'is not ready'}: {answer.reason}"
            for answers in self.services.values()
            for answer in answers
            if not answer.ready
        ]
        for answers in self.services.values():
            for answer in answers:
                status = answer.status or {}
                found += [f"{answer.name} makes a mistake on purpose: {fault}" for fault in status.get("faults") or ()]
                if status.get("parked"):
                    found.append(f"{answer.name} has parked {status['parked']} events")
                if status.get("cache") == "away":
                    found.append(f"{answer.name} works without the cache")
        found += [problem for one in self.sets for problem in one.problems]
        if not self.streaming:
            found.append("the live stream of orders is away")
        return found


class View:
    """Asks and remembers.  `run` follows the stream until it is cancelled; `picture` is the answer for a page."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._session: aiohttp.ClientSession | None = None
        self._token: tuple[float, str] = (0.0, "")
        self._orders: OrderedDict[str, OrderLine] = OrderedDict()
        self._seen: dict[str, deque[float]] = {name: deque(maxlen=20_000) for name in RATES.values()}
        self._streaming = False
        self._picture: Picture | None = None
        self._asking = asyncio.Lock()
        self._cluster = ClusterWatch(settings.cluster) if settings.cluster else None

    async def picture(self) -> Picture:
        """The state of the shop, at most half a second old."""
        async with self._asking:
            if self._picture is None or time.monotonic() - self._picture.at > FRESH_SECONDS:
                self._picture = await self._look()
            return self._picture

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()
        if self._cluster:
            await self._cluster.close()

    async def run(self) -> None:
        """Follow the live stream, again and again."""
        last = ""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                headers = self._headers() | ({"Last-Event-ID": last} if last else {})
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=ASK_SECONDS, sock_read=30)
                url = f"{self._settings.urls.notification}/stream"
                async with self._client().get(url, headers=headers, timeout=timeout) as answer:
                    self._streaming = answer.ok
                    async for raw in answer.content:
                        text = raw.decode(errors="replace").rstrip("\n")
                        if text.startswith("id: "):
                            last = text.removeprefix("id: ")
                        elif text.startswith("data: "):
                            self._take(text.removeprefix("data: "))
            self._streaming = False
            await asyncio.sleep(1)

    def _take(self, text: str) -> None:
        try:
            event = json.loads(text)
            kind, order = str(event["type"]), event.get("order")
        except (ValueError, KeyError, TypeError):
            return
        if kind in RATES:
            self._seen[RATES[kind]].append(time.monotonic())
        if order:
            line = self._orders.setdefault(str(order), OrderLine(str(order)))
            if event.get("id") not in line.seen:  # a stream that was taken up again may tell an event twice
                line.seen.add(event.get("id"))
                line.steps.append(kind)
            self._orders.move_to_end(str(order))
            while len(self._orders) > ORDERS_SHOWN:
                self._orders.popitem(last=False)

    async def _look(self) -> Picture:
        declared = [(service, url) for service, urls in self._settings.instances.items() for url in urls]
        resolved = await asyncio.gather(*(addresses(url) for _, url in declared))
        instances = [(service, url) for (service, _), found in zip(declared, resolved, strict=True) for url in found]
        urls = self._settings.urls
        sets, summary, stock, *answers = await asyncio.gather(
            self._sets(),
            self._json(f"{urls.order}/summary"),
            self._json(f"{urls.inventory}/stock?low=true"),
            *(self._answer(service, url, n) for n, (service, url) in enumerate(instances)),
        )
        services: dict[str, tuple[Answer, ...]] = {}
        for (service, _), answer in zip(instances, answers, strict=True):
            services[service] = (*services.get(service, ()), answer)
        now = time.monotonic()
        return Picture(
            services=services,
            by_status=summary.get("by_status") if summary else None,
            low=tuple(stock.get("items") or ()) if stock else None,
            orders=tuple(reversed([OrderLine(one.order, list(one.steps)) for one in self._orders.values()])),
            rates={n: sum(now - t <= RATE_SECONDS for t in times) / RATE_SECONDS for n, times in self._seen.items()},
            streaming=self._streaming,
            at=now,
            sets=sets,
            faults=faults(self._settings.chaos_records, time.time()),
        )

    async def _sets(self) -> tuple[Set, ...]:
        return await self._cluster.sets() if self._cluster else ()

    async def _answer(self, service: str, url: str, position: int) -> Answer:
        name = f"{service} at {url.removeprefix('http://')}"
        if service == "console":
            return Answer(self._name, url, True, "", {})
        try:
            async with self._client().get(f"{url}/readyz") as answer:
                ready, told = answer.ok, await answer.json(content_type=None)
            status = await self._json(f"{url}/status")
        except TimeoutError:
            return Answer(name, url, False, f"no answer within {ASK_SECONDS:g} s", None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(name, url, False, getattr(error, "strerror", None) or type(error).__name__, None)
        reason = str(told.get("missing") or "") if isinstance(told, dict) else ""
        known = str((status or {}).get("instance") or name)
        return Answer(known, url, ready, reason, status or {})

    async def _json(self, url: str) -> dict[str, Any] | None:
        """A document; None when there is none."""
        try:
            async with self._client().get(url, headers=self._headers()) as answer:
                found = await answer.json(content_type=None) if answer.ok else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _headers(self) -> dict[str, str]:
        until, token = self._token
        if time.monotonic() > until:
            token = issue(self._settings.tokens.keys, OPERATOR, TOKEN_SECONDS)
            self._token = (time.monotonic() + TOKEN_SECONDS / 2, token)
        return {"Authorization": f"Bearer {token}"}

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS))
        return self._session


async def addresses(url: str) -> list[str]:
    """The base URL once for each address that its host has: on Kubernetes one name stands for every pod of a service.

    A name that has none (no pod is there) stays as it is, and then does not answer.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = sorted({str(entry[4][0]) for entry in found})
    if parts.hostname == "localhost":  # two addresses of one
        return [url]
    named = [f"[{host}]" if ":" in host else host for host in hosts]
    return [parts._replace(netloc=f"{host}:{parts.port or 80}").geturl() for host in named]
