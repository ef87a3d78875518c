"""`make shop` with its cache on a Redis Cluster: converges, loses a node under orders, and becomes one server again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardmart.platforms.embedded_shop.files import ShopFiles
from tests.support.clusters import ROOT
from tests.support.plays import Site
from tests.support.shop_sites import declared, must_confirm_an_order

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    # The cache's port is the last one: its other nodes and the ports among themselves are behind it.
    document = declared("first_free", spare=16, cache="redis-cluster")
    document["backends"]["cache_port"] = document["backends"].pop("first_free")
    made.write(**document)
    yield made
    made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def test_the_shop_with_a_clustered_cache_converges_survives_a_node_and_goes_back(site: Site) -> None:
    first = site.must_converge_from_nothing()
    must_confirm_an_order(site)
    secret = site.state / "secrets" / "shop-cache-cluster.password"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text().strip() not in first.output

    done = site.shardmart("chaos", "run", str(ROOT / "chaos" / "kill-cache-node.json"), timeout=420)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)

    pid = int(ShopFiles(site.state).pid("cache-3").read_text())
    victim = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([victim], timeout=60)
    gone = site.shardmart("status", "--json", timeout=180)
    assert gone.returncode == 1
    problems = json.loads(gone.stdout)["problems"]
    assert any(p.startswith("cache-3 is DOWN") and p.endswith("its part come from the store") for p in problems)
    again = site.play("playbooks/shop.yml")
    assert again.code == 0, again.output
    assert site.shardmart("status", timeout=180).returncode == 0

    site.write(backends={"cache_port": site.document["backends"]["cache_port"]})
    back = site.play("playbooks/shop.yml")
    assert back.code == 0, back.output
    must_confirm_an_order(site)
    assert not ShopFiles(site.state).pid("cache-2").exists()
