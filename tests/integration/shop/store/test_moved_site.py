"""A shop that runs moves to PostgreSQL by one command while customers order, and the ledger is clean of all of it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardmart.ledger.metrics import read_windows
from shardmart.platforms.embedded_shop.files import ShopFiles
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared, must_confirm_an_order
from tests.support.shops import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]

ENOUGH = 60
"""So many operations are acknowledged before the move, and again after it."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    parts = declared("mail_port", "postgres_port")
    port = parts["backends"].pop("postgres_port")
    made.write(**parts)
    made.document["later"] = {"store": "postgres", "postgres_port": port}
    with postgres_home("moved"):
        yield made
        made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


@contextmanager
def customers(site: Site, journal: Path) -> Iterator[Callable[[], int]]:
    """The ledger's workload while the block runs, on both sides of it; gives how many operations were acknowledged."""
    command = [sys.executable, "-m", "shardmart.ledger", "run", "--state", str(site.state), "--json"]
    command += ["--workload", "shop", "--journal", str(journal), "--clients", "3"]
    command += ["--rate", "10", "--duration", "900", "--operation-timeout", "120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:

        def acknowledged() -> int:
            assert running.poll() is None, running.communicate()
            return sum(window.ok for window in read_windows(journal))

        try:
            wait_until(lambda: acknowledged() >= ENOUGH, "orders before the move", 240)
            yield acknowledged
        finally:
            running.send_signal(signal.SIGTERM)
            said = running.communicate(timeout=240)
    assert running.returncode == 0, said


def verdict_on(site: Site, journal: Path) -> dict[str, Any]:
    done = site.shardmart("ledger", "check", str(journal), "--wait", "180", "--json", timeout=420)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_running_shop_is_moved_by_one_command_and_the_ledger_is_clean(site: Site, tmp_path: Path) -> None:
    later = site.document.pop("later")
    site.write()
    first = site.play("site.yml")
    assert first.code == 0, first.output
    must_confirm_an_order(site)
    config = ShopFiles(site.state).configuration("order-1.json")
    old = shutil.copy(config, tmp_path / "order-1.json")

    on_mongodb = dict(site.document["backends"])
    site.write(backends=on_mongodb | later)
    refused = site.play("site.yml")
    assert refused.code != 0
    assert "`-e move_store=true` moves them there" in refused.output
    planned = site.play("site.yml", "-e", "move_store=true", "--check")
    assert planned.code == 0, planned.output
    assert "would be moved" in planned.output
    assert "store" not in json.loads(config.read_text())

    with customers(site, tmp_path / "journal") as acknowledged:
        moved = site.play("site.yml", "-e", "move_store=true")
        assert moved.code == 0, moved.output
        print([line for line in moved.output.splitlines() if "seconds" in line])
        before = acknowledged()
        wait_until(lambda: acknowledged() >= before + ENOUGH, "orders after the move", 240)
    verdict = verdict_on(site, tmp_path / "journal")
    print(json.dumps(verdict))
    assert verdict["clean"], verdict
    figures = verdict["figures"]["shop"]
    assert figures["accepted"] == figures["confirmed"] + figures["cancelled"] > 0
    must_confirm_an_order(site)

    again = site.play("site.yml", "-e", "move_store=true")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output
    plain = site.play("site.yml")
    assert plain.code == 0, plain.output
    assert set(plain.changed.values()) == {0}, plain.output
    letters = json.loads(site.shardmart("shop", "mail", "--config", str(config), "--last", "1000", "--json").stdout)
    print(f"{len(letters)} e-mails; more than once: {[one for one in letters if one.get('times', 1) != 1]}")

    left = site.shardmart("shop", "run", "order", "--config", str(old))
    assert left.returncode == 4
    assert "start services with the settings that have `store`" in left.stderr
    site.write(backends=on_mongodb)
    back = site.play("site.yml")
    assert back.code != 0
    assert "the shop's orders are in postgres, the topology says mongodb: they are not moved" in back.output
