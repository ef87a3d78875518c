"""The ledger on a real shop: what is well is found clean, and each of three classic mistakes is caught by its name."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import EmbeddedCluster
from tests.support.postgres_stores import running_postgres
from tests.support.shop_ledger import ACKNOWLEDGED, check, details, ledger, orders, restart
from tests.support.shops import CONSUMERS, RunningShop, running_shop, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture(scope="module", params=["mongodb", "postgres"])
def shop(
    request: pytest.FixtureRequest, cluster: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningShop]:
    """One instance of each service: nothing but the mistake is to be seen when one is killed."""
    folder = tmp_path_factory.mktemp("shop")
    if request.param == "mongodb":
        with running_shop(cluster, folder) as running:
            running.describe()
            yield running
        return
    with running_postgres(folder) as server:
        filled, again = server.migrate(cluster), server.migrate(cluster)
        assert filled.products > 0
        assert (filled.customers, again.changes) == (30, [])
        more = {service: server.settings_of(service) for service in CONSUMERS}
        with running_shop(cluster, folder, settings=more) as running:
            running.describe(server.place)
            yield running


def test_a_shop_whose_services_are_killed_is_clean_and_every_order_is_accounted_for(
    shop: RunningShop, tmp_path: Path
) -> None:
    shop.rules({"action": "decline", "share": 0.2}, {"action": "lose-answer", "share": 0.3, "times": 1})
    with orders(shop, tmp_path / "j", 2 * ACKNOWLEDGED):
        for service in ("payment", "order"):
            restart(shop, service)
    verdict = check(shop, tmp_path / "j", 120)
    assert verdict["clean"], verdict["anomalies"]
    figures = verdict["figures"]["shop"]
    assert figures["accepted"] == figures["confirmed"] + figures["cancelled"] > 0
    assert figures["cancelled"] > 0
    assert (figures["lost"], figures["charged-twice"], figures["oversold"]) == (0, 0, 0)
    again = subprocess.run(
        ledger(shop, "check", str(tmp_path / "j"), "--offline"), capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["figures"] == verdict["figures"]


def test_a_consumer_that_acknowledges_before_its_effect_is_caught(shop: RunningShop, tmp_path: Path) -> None:
    patient = {"url": shop.instances["provider"][0].url, "timeout_seconds": 60}
    shop.settings_of("payment")["provider"] = patient | {"api_key": shop.api_key, "webhook_secret": shop.webhook_secret}
    restart(shop, "payment", "acknowledge-before-effect")
    shop.rules({"action": "delay", "seconds": 30})
    with orders(shop, tmp_path / "j"):

        def acknowledged() -> bool:
            """Whether an event waits for its effect behind another one, which was acknowledged before it was queued."""
            return any(lane["pending"] >= 2 for lane in shop.get("payment", "/status")["lanes"])

        wait_until(acknowledged, "an acknowledged event to wait for its effect")
        restart(shop, "payment")
        shop.rules()
    verdict = check(shop, tmp_path / "j", 10)
    assert {"effect-lost", "unfinished"} <= verdict["counts"].keys(), verdict["counts"]
    assert any(
        detail.endswith("told payment-requested, and payment has not done what follows")
        for detail in details(verdict, "effect-lost")
    )
    assert not {"event-lost", "charged-twice"} & verdict["counts"].keys()


def test_an_outbox_outside_the_transaction_is_caught(shop: RunningShop, tmp_path: Path) -> None:
    restart(shop, "order", "outbox-outside-transaction")
    with orders(shop, tmp_path / "j"):
        restart(shop, "order")
    verdict = check(shop, tmp_path / "j", 10)
    assert "event-lost" in verdict["counts"], verdict["counts"]
    assert all("events by order; number" in detail for detail in details(verdict, "event-lost"))
    assert not {"charged-twice", "oversold"} & verdict["counts"].keys()


def test_a_charge_without_idempotency_is_caught(shop: RunningShop, tmp_path: Path) -> None:
    restart(shop, "payment", "charge-without-idempotency")
    shop.rules({"action": "lose-answer", "share": 0.5})
    with orders(shop, tmp_path / "j"):

        def twice() -> bool:
            entries = shop.provider("GET", "/ledger?limit=5000")["items"]
            charged = Counter(entry["order"] for entry in entries if entry["answer"] == "captured")
            return any(times > 1 for times in charged.values())

        wait_until(twice, "an order to be charged twice")
        shop.rules()
    restart(shop, "payment")
    verdict = check(shop, tmp_path / "j", 5)
    assert "charged-twice" in verdict["counts"], verdict["counts"]
    assert not {"event-lost", "oversold"} & verdict["counts"].keys()
