"""`make polyglot` converges: three sources filled, nothing changed twice, PostgreSQL stopped where it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from shardmart.platforms import postgres
from shardmart.platforms.embedded_shop.files import ShopFiles
from tests.support.clusters import ROOT
from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.write(**declared("postgres_port", catalogue="postgres"))
    with postgres_home("polyglot"):
        yield made
        made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def catalogue(site: Site) -> requests.Response:
    shop = site.cluster().description.shop
    assert shop
    found = shop.service("catalogue")
    assert found
    return requests.get(f"{found.url}/api/products?limit=100", timeout=30)


def test_the_polyglot_shop_converges_and_is_stopped_with_its_data_kept(site: Site) -> None:
    first = site.must_converge_from_nothing()

    answer = catalogue(site)
    assert answer.headers.get("Catalogue-Missing") is None
    with site.cluster().client() as client:
        products = list(client["ecommerce"]["products"].find().sort("_id", 1))
    assert [(p["id"], p["name"], p["stock"]) for p in answer.json()] == [
        (str(p["_id"]), p["name"], str(p["stock"])) for p in products
    ]
    secrets = site.state / "secrets"
    passwords = {file.name: file for file in secrets.glob("shop-*postgres.password")}
    assert set(passwords) == {"shop-postgres.password", "shop-catalogue-postgres.password"}
    assert {file.stat().st_mode & 0o777 for file in passwords.values()} == {0o600}
    assert [name for name, file in passwords.items() if file.read_text().strip() in first.output] == []
    config = ShopFiles(site.state).configuration("catalogue-1.json")
    looked = subprocess.run(
        [str(Path(sys.executable).with_name("shardmart")), "shop", "sources", "--json", "--config", str(config)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert [one["products"] for one in json.loads(looked.stdout)] == [len(products)] * 3

    killed = site.shardmart("chaos", "run", str(ROOT / "chaos" / "kill-cache.json"), timeout=420)
    assert killed.returncode == 0, killed.stdout + killed.stderr
    assert_no_order_was_lost(summary_of_last_run(site.state))

    server = postgres.Server("shop-postgres", 0, "postgres", Path(), postgres.Host(site.state), peers=False)
    assert server.running()
    wanted = dict(site.document["backends"])
    site.write(backends={key: wanted[key] for key in ("cache_port", "mail")})
    without = site.play("playbooks/shop.yml")
    assert without.code == 0, without.output
    assert not server.running(), "the topology has it no more"
    assert server.made, "what it held is kept"
    assert [p["id"] for p in catalogue(site).json()] == [p["id"] for p in answer.json()], "products come from MongoDB"

    site.write(backends=wanted)
    down = site.play("playbooks/destroy.yml")
    assert down.code == 0, down.output
    back = site.play("site.yml")
    assert back.code == 0, back.output
    assert [p["id"] for p in catalogue(site).json()] == [p["id"] for p in answer.json()]
