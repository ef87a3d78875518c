"""A relay that waits for no acknowledgement (acks=0) loses events with its broker, and the ledger says which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import EmbeddedCluster
from tests.support.kafkas import RunningKafka
from tests.support.shop_ledger import check, details, orders
from tests.support.shops import CONSUMERS, RunningShop, running_shop, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]
RELAYED = re.compile(r'^shop_events_handled_total\{[^}]*service="relay"[^}]*\} (\S+)$', re.MULTILINE)
ATTEMPTS = 8


@pytest.fixture
def shop(cluster: EmbeddedCluster, kafka: RunningKafka, tmp_path: Path) -> Iterator[RunningShop]:
    settings = {service: {"kafka": kafka.settings(service)} for service in CONSUMERS}
    settings["order"]["faults"] = ["relay-without-acknowledgement"]
    with running_shop(cluster, tmp_path / "shop", settings=settings) as running:
        running.describe()
        yield running


def relayed(shop: RunningShop) -> float:
    """Events that the relay takes for published."""
    return sum(map(float, RELAYED.findall(shop.call("order", "GET", "/metrics").text)))


def must_swallow_events(shop: RunningShop, kafka: RunningKafka) -> None:
    """Stop the broker while the relay publishes.  Where the relay just looked for its topic, it waits: once more."""
    for _ in range(ATTEMPTS):
        before = relayed(shop)
        kafka.pause()
        try:
            wait_until(lambda since=before: relayed(shop) >= since + 3, "events to be sent to a broker that hangs", 4)  # type: ignore[misc]
        except AssertionError:
            kafka.resume()
        else:
            return
    pytest.fail("the relay sent nothing to a broker that hangs")


def test_a_relay_without_acknowledgements_is_caught(shop: RunningShop, kafka: RunningKafka, tmp_path: Path) -> None:
    with orders(shop, tmp_path / "j"):
        must_swallow_events(shop, kafka)
        kafka.kill()
        kafka.start()
    verdict = check(shop, tmp_path / "j", 10)
    assert {"effect-lost", "unfinished"} <= verdict["counts"].keys(), verdict["counts"]
    assert all(
        re.search(r"told \S+, and (order|inventory|payment|notification) has not done what follows", detail)
        for detail in details(verdict, "effect-lost")
    )
    assert not {"event-lost", "charged-twice", "oversold"} & verdict["counts"].keys()
