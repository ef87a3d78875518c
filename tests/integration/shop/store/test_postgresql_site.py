"""`make shop` with its store on PostgreSQL: orders are confirmed, the ledger is clean, its server may be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardmart.platforms import postgres
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.shop.adapters.postgres.tables import RIGHTS
from tests.support.clusters import ROOT
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared, must_confirm_an_order

pytestmark = [pytest.mark.integration, pytest.mark.full]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.write(**declared("postgres_port", store="postgres"))
    with postgres_home("store"):
        yield made
        made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def must_be_clean(site: Site, journal: Path) -> None:
    """Orders for some seconds, and the ledger's verdict on them."""

    def ledger(*words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "shardmart.ledger", *words, "--state", str(site.state), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    ledger(
        *("run", "--workload", "shop", "--journal", str(journal), "--clients", "3"),
        *("--rate", "10", "--duration", "10", "--operation-timeout", "60"),
    )
    verdict = ledger("check", str(journal), "--wait", "120")
    assert verdict["clean"], verdict


def must_survive(site: Site, experiment: str) -> None:
    """Run an experiment; its report is shown by pytest's -rP."""
    done = site.shardmart("chaos", "run", str(ROOT / "chaos" / f"{experiment}.json"), timeout=420)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def orders_in(server: postgres.Server, site: Site) -> int:
    """How many orders are in PostgreSQL, as `psql` of the administrator counts them."""
    password = (site.state / "secrets" / "shop-postgres.password").read_text().strip()
    command = [str(server.host.program("psql")), "-h", postgres.HOST, "-p", str(server.port), "-U", "postgres", "-At"]
    done = subprocess.run(
        [*command, "-c", "SELECT count(*) FROM orders", "shop"],
        capture_output=True, text=True, check=True, timeout=60, env={"PGPASSWORD": password},
    )  # fmt: skip
    return int(done.stdout)


def test_the_shop_on_postgresql_converges_and_is_stopped_with_its_data_kept(site: Site, tmp_path: Path) -> None:
    first = site.must_converge_from_nothing()
    must_confirm_an_order(site)
    backends = site.document["backends"]
    server = postgres.Server(
        "shop-postgres", backends["postgres_port"], "postgres", Path(), postgres.Host(site.state), peers=False
    )
    assert orders_in(server, site) == 1
    must_be_clean(site, tmp_path / "journal")
    must_survive(site, "kill-store-primary")
    must_survive(site, "partition-store")
    taken = orders_in(server, site)

    passwords = {file.name: file for file in (site.state / "secrets").glob("shop-postgres*.password")}
    users = {f"{user.replace('shop_', 'shop-postgres-')}.password" for user in RIGHTS}
    assert set(passwords) == users | {"shop-postgres.password"}
    assert {file.stat().st_mode & 0o777 for file in passwords.values()} == {0o600}
    assert [name for name, file in passwords.items() if file.read_text().strip() in first.output] == []
    assert ShopFiles(site.state).configuration("store.json").stat().st_mode & 0o777 == 0o600

    live = server.running()
    assert live
    family = [live, *live.children(recursive=True)]
    live.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=60)
    gone = site.shardmart("status", "--json", timeout=180)
    assert gone.returncode == 1
    assert any(
        problem.startswith("shop-postgres is DOWN") and problem.endswith("what was begun goes on when it is back")
        for problem in json.loads(gone.stdout)["problems"]
    ), gone.stdout
    assert site.play("playbooks/shop.yml").code == 0
    must_confirm_an_order(site)

    down = site.play("playbooks/destroy.yml")
    assert down.code == 0, down.output
    assert not server.running()
    back = site.play("site.yml")
    assert back.code == 0, back.output
    assert orders_in(server, site) == taken + 1
    must_confirm_an_order(site)
