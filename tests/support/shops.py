"""A running shop for tests: every service as processes of their own on free ports, on a real cluster.

There is no load balancer: `Caller` goes round the instances of a service, as one would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiosmtpd.controller
import requests

from shardmart.cluster import shop as described
from shardmart.shop.settings import NEGATIVE_CONTROL
from shardmart.shop.web.tokens import issue
from tests.support.clusters import EmbeddedCluster, free_ports

Document = dict[str, Any]
DATABASE_SERVICES = ("order", "inventory", "payment", "notification", "catalogue")
CONSUMERS = ("order", "inventory", "payment", "notification")
STOCK = 10_000
"""Pieces of each product in the clusters that tests make."""
WAIT_SECONDS = 90.0
READY_SECONDS = 240.0
"""Ten processes that start at once: 20 s of CPU, which on a machine with a load of 50 took two minutes and more."""


def wait_until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """What `condition` returns once that is true; AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)  # polling interval
    return found


@dataclass
class Instance:
    """One process of a service."""

    service: str
    name: str
    port: int
    config: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it listens a little later."""
        command = [sys.executable, "-m", "shardmart.shop", "run", self.service, "--config", str(self.config)]
        command += ["--port", str(self.port), "--instance", self.name]
        environment = os.environ | {NEGATIVE_CONTROL: "yes"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        assert self.process
        assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL and SIGTERM wait for the end."""
        assert self.process
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(60)


class Mailbox:
    """A real mail server that keeps what it takes.  `refuse`: answer 451 so many times first."""

    def __init__(self) -> None:
        self.messages: list[Document] = []
        self.refuse = 0
        self.port = free_ports(1)[0]
        self._controller = aiosmtpd.controller.Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """See aiosmtpd."""
        if self.refuse > 0:
            self.refuse -= 1
            return "451 try again later"
        lines = envelope.content.decode().splitlines()
        headers = dict(line.split(": ", 1) for line in lines[: lines.index("")] if ": " in line)
        self.messages.append({"to": envelope.rcpt_tos, **headers, "text": "\n".join(lines)})
        return "250 OK"

    def close(self) -> None:
        """Stop it."""
        self._controller.stop()


@dataclass
class RunningShop:
    """Instances of all services, and ways to call them."""

    cluster: EmbeddedCluster
    folder: Path
    mailbox: Mailbox
    instances: dict[str, list[Instance]] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    api_key: str = field(default_factory=lambda: secrets.token_hex(16))
    webhook_secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self._turn = itertools.count()
        self.client = requests.Session()

    def make(self, service: str, count: int, **settings: Any) -> list[Instance]:
        """Instances of a service, not started; `settings` are more keys of their file."""
        made = []
        for port in free_ports(count):
            name = f"{service}-{len(self.instances.get(service, [])) + 1}"
            config = self.folder / f"{name}.json"
            config.touch(mode=0o600)
            made.append(Instance(service, name, port, config, self.folder / f"{name}.log"))
            self.instances.setdefault(service, []).append(made[-1])
        self.settings_of(service).update(settings)
        return made

    def settings_of(self, service: str) -> Document:
        """More keys of a service's file; in effect at the next start."""
        return self._more.setdefault(service, {})

    _more: dict[str, Document] = field(default_factory=dict)

    def write(self, instance: Instance) -> None:
        """Write the file of an instance."""
        urls = {s: self.instances[s][0].url for s in DATABASE_SERVICES if s in self.instances}
        document: Document = {"tokens": {"keys": [self.key]}, "urls": urls, "drain_seconds": 0.2, "lease_seconds": 3}
        document["limits"] = {"requests_per_second": 100_000, "burst": 100_000}
        if instance.service in DATABASE_SERVICES:
            document["mongodb"] = {"uri": self.cluster.uri(f"shop-{instance.service}")}
        if instance.service in ("payment", "provider"):
            provider = self.instances["provider"][0].url
            document["provider"] = {"url": provider, "api_key": self.api_key, "webhook_secret": self.webhook_secret}
        if instance.service == "provider":
            document["data_folder"] = str(self.folder / "provider")
        if instance.service == "notification":
            document["smtp"] = {"port": self.mailbox.port}
        instance.config.write_text(json.dumps(document | self.settings_of(instance.service)))

    def start(self, *instances: Instance) -> None:
        """Start these (all that are not running when none is named) and wait until they are ready."""
        wanted = instances or [i for each in self.instances.values() for i in each if i.process is None]
        for instance in wanted:
            self.write(instance)
            instance.start()
        for instance in wanted:
            wait_until(instance.is_ready, f"{instance.name} to be ready", READY_SECONDS)

    def describe(self, postgres: described.Instance | None = None) -> None:
        """Write into the cluster's state folder where the shop is and what lets others in, as `make shop` does.

        `postgres` has its store, if not the cluster.
        """
        services = []
        for service, instances in self.instances.items():
            made = tuple(described.Instance(one.name, "127.0.0.1", one.port) for one in instances)
            services.append(described.Service(service, "127.0.0.1", instances[0].port, made))
        backends = described.Backends(store="postgres" if postgres else "mongodb", cache="memory")
        described_shop = described.Shop(tuple(services), backends, postgres=postgres)
        folder = self.cluster.folder
        (folder / "cluster.json").write_text(replace(self.cluster.description, shop=described_shop).dumps())
        for name, secret in (("shop-tokens", self.key), ("shop-provider", self.api_key)):
            (folder / "secrets" / f"{name}.password").write_text(f"{secret}\n")

    def stop(self) -> None:
        """End everything."""
        for instance in (i for each in self.instances.values() for i in each):
            if instance.process and instance.process.poll() is None:
                instance.process.send_signal(signal.SIGCONT)
                instance.process.kill()
                instance.process.wait(10)
        self.client.close()

    def token(self, customer: str | None = None) -> str:
        """A token of a customer, else of an operator."""
        return issue([self.key], f"customer:{customer}" if customer else "operator", 3600)

    def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        customer: str | None = None,
        body: Any = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        instance: int | None = None,
    ) -> requests.Response:
        """One request, as an operator or as `customer`, to the next living instance."""
        given = {"Authorization": f"Bearer {self.token(customer)}"} | dict(headers or {})
        if method == "POST":
            given.setdefault("Idempotency-Key", key or secrets.token_hex(12))
        living = [i for i in self.instances[service] if i.process and i.process.poll() is None]
        chosen = living[(next(self._turn) if instance is None else instance) % len(living)]
        return self.client.request(method, chosen.url + path, json=body, headers=given, timeout=30)

    def get(self, service: str, path: str, **options: Any) -> Document:
        """The document of a GET that must succeed."""
        answer = self.call(service, "GET", path, **options)
        assert answer.status_code == 200, answer.text
        document: Document = answer.json()
        return document

    def provider(self, method: str, path: str, body: Any = None) -> Document:
        """Ask the provider."""
        answer = self.client.request(
            method,
            self.instances["provider"][0].url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        document: Document = answer.json()
        return document

    def rules(self, *rules: Document) -> None:
        """The mistakes the provider makes from now on."""
        self.provider("PUT", "/rules", {"rules": list(rules)})

    def place(self, customer: str, items: Mapping[str, int], **options: Any) -> Document:
        """Place an order that must be accepted."""
        body = {"items": [{"product_id": p, "quantity": q} for p, q in items.items()]}
        answer = self.call("order", "POST", "/orders", customer=customer, body=body, **options)
        assert answer.status_code == 201, answer.text
        document: Document = answer.json()
        return document

    def ended(self, order: str, seconds: float = WAIT_SECONDS) -> Document:
        """The order once it is confirmed or cancelled."""

        def look() -> Document | None:
            found = self.get("order", f"/orders/{order}")
            return found if found["status"] in ("confirmed", "cancelled") else None

        found: Document = wait_until(look, f"{order} to end", seconds)
        return found


@contextlib.contextmanager
def running_shop(
    cluster: EmbeddedCluster,
    folder: Path,
    counts: Mapping[str, int] | None = None,
    settings: Mapping[str, Document] | None = None,
) -> Iterator[RunningShop]:
    """A shop on `cluster` with so many instances of each service (one), ended at the end of the block.

    `settings` are more keys of services' files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mailbox = Mailbox()
    shop = RunningShop(cluster, folder, mailbox)
    try:
        for service in ("provider", *DATABASE_SERVICES):
            shop.make(service, (counts or {}).get(service, 1), **(settings or {}).get(service, {}))
        shop.start()
        yield shop
    finally:
        shop.stop()
        mailbox.close()
        for log in sorted(folder.glob("*.log")):  # shown with a test that fails
            for line in [line for line in log.read_text().splitlines() if '"level": "info"' not in line][-40:]:
                print(line[:1000])
