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
from tests.support.clusters import CACHE, free_ports
from tests.support.plays import Site
from tests.support.shops import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]
BALANCED = ("catalogue", "order", "inventory", "payment", "notification")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    try:
        programs.java()
        programs.fetch(CACHE)
    except MissingError as error:
        pytest.skip(f"no Kafka on this machine: {error}")
    ports = free_ports(2 * len(BALANCED) + 3 + 11)
    services: dict[str, object] = {
        name: {"port": ports[2 * n], "instances": 1, "instances_from": ports[2 * n + 1]}
        for n, name in enumerate(BALANCED)
    }
    services |= {"provider": {"port": ports[10]}, "console": {"port": ports[11]}}
    made = Site(tmp_path)
    made.write(services=services, backends={"event_log": "kafka", "cache_port": ports[12], "kafka_port": ports[13]})
    yield made
    made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def must_confirm_an_order(site: Site) -> None:
    config = str(ShopFiles(site.state).configuration("order-1.json"))
    done = site.shardmart("shop", "order", "--json", "--wait", "120", "--config", config, timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notification"] == "sent"


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
    assert site.play("playbooks/shop.yml").code == 0
    must_confirm_an_order(site)

    on_kafka = dict(site.document["backends"])
    site.write(backends={"cache_port": on_kafka["cache_port"]})
    moved = site.play("playbooks/shop.yml")
    assert moved.code == 0, moved.output
    must_confirm_an_order(site)
    must_follow(site, "mongodb")
    assert not ShopFiles(site.state).pid("kafka-1").exists(), "the topology has it no more"

    site.write(backends=on_kafka)
    assert site.play("playbooks/shop.yml").code == 0
    must_confirm_an_order(site)
    must_follow(site, "kafka")
