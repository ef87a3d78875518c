"""`make shop` with events on Kafka converges, and a running shop moves to MongoDB's log and back by its topology."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmart.platforms.embedded_kafka import programs
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.maven import MissingError
from tests.integration.shop.store.test_postgresql_site import must_survive
from tests.support.clusters import CACHE
from tests.support.plays import Site
from tests.support.shop_sites import declared, must_confirm_an_order
from tests.support.shops import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    try:
        programs.java()
        programs.fetch(CACHE)
    except MissingError as error:
        pytest.skip(f"no Kafka on this machine: {error}")
    made = Site(tmp_path)
    made.write(**declared("kafka_port", spare=10, event_log="kafka"))
    yield made
    made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def must_follow(site: Site, log: str) -> None:
    """Wait until every lane of the services has a position of that log."""
    wait_until(lambda: positions(site) == {log}, f"every lane to follow {log}: {positions(site)}")


def positions(site: Site) -> set[str]:
    """Which logs the positions of the services' lanes are of."""
    with site.cluster().client() as client:
        lanes: list[dict[str, Any]] = list(
            client["ecommerce"]["lanes"].find({"kind": "lane", "service": {"$ne": "relay"}})
        )
    return {"kafka" if ":" in lane["position"] else "mongodb" for lane in lanes if lane["position"]}


def test_the_shop_on_kafka_converges_and_moves_to_mongodb_and_back(site: Site) -> None:
    first = site.must_converge_from_nothing()
    must_confirm_an_order(site)
    must_follow(site, "kafka")
    passwords = sorted((site.state / "secrets").glob("shop-kafka*.password"))
    assert len(passwords) == 5
    assert {file.stat().st_mode & 0o777 for file in passwords} == {0o600}
    assert [file.name for file in passwords if file.read_text().strip() in first.output] == []
    assert ShopFiles(site.state).configuration("kafka-1.properties").stat().st_mode & 0o777 == 0o600

    os.kill(int(ShopFiles(site.state).pid("kafka-1").read_text()), signal.SIGKILL)
    gone = site.shardmart("status", "--json", timeout=180)
    assert gone.returncode == 1
    problems = json.loads(gone.stdout)["problems"]
    assert any(problem.startswith("kafka-1 is DOWN") and "orders are taken" in problem for problem in problems)
    again = site.play("playbooks/shop.yml")
    assert again.code == 0, again.output
    must_confirm_an_order(site)

    on_kafka = dict(site.document["backends"])
    site.write(backends={key: on_kafka[key] for key in ("cache_port", "mail")})
    moved = site.play("playbooks/shop.yml")
    assert moved.code == 0, moved.output
    must_confirm_an_order(site)
    must_follow(site, "mongodb")
    assert not ShopFiles(site.state).pid("kafka-1").exists(), "the topology has it no more"

    site.write(backends=on_kafka)
    back = site.play("playbooks/shop.yml")
    assert back.code == 0, back.output
    must_confirm_an_order(site)
    must_follow(site, "kafka")
    must_survive(site, "kill-all-brokers")
