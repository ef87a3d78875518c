"""`site.yml` with services: the shop runs, a second run changes nothing, without services it is stopped.

One cluster and shop for the module, on free ports; the console is read in a real Chromium where there is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from shardmart.cluster.observe import shop as observe
from shardmart.cluster.shop import Shop
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.ring import RingClient
from shardmart.ring import settings as ring_settings
from shardmart.ring.carts import RingCarts
from shardmart.shop import settings
from shardmart.shop.demonstration import somebody
from shardmart.shop.web.tokens import issue
from tests.support.clusters import free_ports
from tests.support.plays import Site
from tests.support.shop_sites import declared

pytestmark = [pytest.mark.integration, pytest.mark.long]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("shop"))
    # Two nodes, because what is claimed of three is tests/integration/ring's.
    ring = {"name": "carts", "nodes": 2, "port": free_ports(3)[0], "virtual_nodes": 64}
    made.write(**declared("mail_port"), rings=[ring])
    yield made
    made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def shop_of(site: Site) -> Shop:
    found = site.cluster().description.shop
    assert found is not None
    return found


def test_1_the_shop_is_up_and_a_second_run_changes_nothing(site: Site) -> None:
    site.must_converge_from_nothing()


def test_2_an_order_is_confirmed_and_its_customer_told(site: Site) -> None:
    done = site.shardmart(
        "shop", "order", "--json", "--config", str(ShopFiles(site.state).configuration("order-1.json"))
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notification"] == "sent"


@pytest.mark.full  # until it has been seen to pass
def test_2_an_order_ends_with_an_e_mail_that_one_can_read(site: Site) -> None:
    config = ShopFiles(site.state).configuration("order-1.json")
    customer = somebody(settings.load(config))
    done = site.shardmart("shop", "order", "--json", "--customer", customer, "--config", str(config))
    assert done.returncode == 0, done.stderr
    ordered = json.loads(done.stdout)
    assert ordered["notification"] == "sent"
    with site.cluster().client("loader") as client:
        region, _, user = customer.partition(".")
        person = client.ecommerce.users.find_one({"region": region, "_id": ObjectId(user)})
        assert person is not None
    shown = site.shardmart("shop", "mail", ordered["order"], "--json", "--config", str(config))
    assert shown.returncode == 0, shown.stderr
    (letter,) = json.loads(shown.stdout)
    assert letter == ordered["mail"]
    assert (letter["to"], letter["subject"]) == (person["email"], "Your order is confirmed")
    assert f"Total: {ordered['total_cents'] / 100:.2f}" in letter["text"]


def test_2_a_cart_lies_on_the_ring_and_is_ordered_once(site: Site) -> None:
    config = settings.load(ShopFiles(site.state).configuration("order-1.json"))
    customer = somebody(config)
    token = issue(config.tokens.keys, f"customer:{customer}", 600)

    def call(method: str, url: str, body: object = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": "cart-1"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"{}")

    order, catalogue = config.urls.order, config.urls.catalogue
    with urllib.request.urlopen(f"{catalogue}/api/products?limit=1", timeout=60) as answer:
        product = json.load(answer)[0]["id"]
    for line in ("a", "b", "b"):
        call("PUT", f"{order}/carts/{customer}/lines/{line}", {"product_id": product, "quantity": 1})

    async def on_the_ring() -> list[str]:
        async with RingClient(ring_settings.read(site.state / "rings" / "carts" / "settings.json")) as ring:
            assert len(ring.view.holders(f"cart:{customer}")) == 2
            return [line.id for line in await RingCarts(ring).lines(f"cart:{customer}")]

    assert asyncio.run(on_the_ring()) == ["a", "b"]
    (item,) = call("GET", f"{catalogue}/api/carts/{customer}")[1]["items"]
    assert (item["product_id"], item["quantity"], item["product"]["id"]) == (product, 2, product)
    status, placed = call("POST", f"{order}/carts/{customer}/checkout", {})
    assert (status, [(one["product_id"], one["quantity"]) for one in placed["items"]]) == (201, [(product, 2)])
    assert call("POST", f"{order}/carts/{customer}/checkout", {})[1] == placed
    assert call("GET", f"{order}/carts/{customer}")[1]["lines"] == []
    assert asyncio.run(on_the_ring()) == []


def test_3_status_knows_the_shop_and_says_who_is_gone(site: Site) -> None:
    well = site.shardmart("status", "--json")
    assert well.returncode == 0, well.stdout
    states = {i["name"]: i["state"] for s in json.loads(well.stdout)["shop"]["services"] for i in s["instances"]}
    assert states == {one.name: "READY" for one in shop_of(site).instances}

    os.kill(int(ShopFiles(site.state).pid("inventory-1").read_text()), signal.SIGKILL)
    gone = site.shardmart("status", "--json")
    assert gone.returncode == 1
    assert any(problem.startswith("inventory-1 is DOWN") for problem in json.loads(gone.stdout)["problems"])
    mended = site.play("playbooks/shop.yml")
    assert mended.code == 0, mended.output
    assert mended.changed["controller"] == 1, "what was killed is started, and nothing else is touched"


def test_4_secrets_are_readable_by_their_owner_only_and_on_no_command_line(site: Site) -> None:
    folder = ShopFiles(site.state).folder
    assert folder.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o077 for file in (folder / "config").rglob("*")} == {0}
    secrets = {file.read_text().strip() for file in (site.state / "secrets").glob("*.password")}
    lines = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert [secret for secret in secrets if secret in lines] == []
    assert [log.name for log in (folder / "logs").iterdir() for secret in secrets if secret in log.read_text()] == []


def test_5_the_console_answers_to_this_machine_only(site: Site) -> None:
    console = shop_of(site).service("console")
    assert console is not None
    request = urllib.request.Request(console.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 421


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
def test_6_the_console_in_chromium_is_live_fits_a_phone_and_works_by_keyboard(site: Site) -> None:
    from playwright.sync_api import sync_playwright

    console = shop_of(site).service("console")
    assert console is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(console.url)
        page.get_by_text("instances are ready").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 23)"

        config = str(ShopFiles(site.state).configuration("order-1.json"))
        order = json.loads(site.shardmart("shop", "order", "--json", "--config", config).stdout)["order"]
        row = page.get_by_role("row").filter(has_text=order[-8:])
        row.get_by_text("confirmed").wait_for()
        assert row.get_by_role("cell").inner_text() == "placed → reserved → payment asked → paid → confirmed"

        page.keyboard.press("Tab")  # the skip link
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Go on", pressed=True).wait_for()
        assert page.get_by_role("status").inner_text() == "paused"
        assert problems == []
        browser.close()


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
def test_6_the_console_in_chromium_shows_the_members_and_documents_of_the_cluster(site: Site) -> None:
    from playwright.sync_api import sync_playwright

    console = shop_of(site).service("console")
    assert console is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 800})
        page.goto(console.url)
        sets = site.cluster().description.replica_sets
        primaries = page.locator("#cluster").get_by_text("primary", exact=True)
        primaries.nth(len(sets) - 1).wait_for()
        assert primaries.count() == len(sets)
        documents = page.get_by_role("row").filter(has_text="shard1ReplSet").get_by_role("cell").last
        assert int(documents.inner_text().replace(",", "")) > 0
        browser.close()


def test_7_a_topology_without_services_stops_the_shop_says_so_and_keeps_the_cluster(site: Site) -> None:
    shop = shop_of(site)
    del site.document["services"], site.document["backends"], site.document["rings"]
    site.write()
    played = site.play("site.yml")
    assert played.code == 0, played.output
    told = " ".join(played.output[played.output.rindex("Say what runs no more") :].split())
    names = re.search("stopped, because this topology does not have it: ([^.]+)[.] .* `make shop`", told)
    assert names, told
    assert {one.name for one in shop.processes} <= set(names[1].split(", "))
    assert "running, though this topology does not have it: ring carts." in " ".join(played.output.split())
    assert [one.name for one in shop.instances if observe.ask(one.host, one.port).state != observe.DOWN] == []
    assert site.cluster().description.shop is None
    with site.cluster().client("loader") as client:
        assert client.ecommerce.events.count_documents({}) > 0, "what the shop wrote stays"


def test_8_destroy_stops_the_ring_that_the_topology_has_no_more(site: Site) -> None:
    def servers() -> list[str]:
        lines = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in lines.splitlines() if f"{site.state}/rings/" in line]

    assert servers(), "the ring of the earlier topology runs"
    played = site.play("playbooks/destroy.yml", "-e", "destroy_data=true")
    assert played.code == 0, played.output
    assert servers() == []
