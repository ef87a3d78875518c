"""The ledger on a shop of a test: orders in the background, the verdict on them, and services with a mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardmart.ledger.metrics import read_windows
from tests.support.shops import RunningShop, wait_until

ACKNOWLEDGED = 40
"""So many operations are acknowledged before a run ends: enough orders of every kind, on a machine of any speed."""


def ledger(shop: RunningShop, *words: str) -> list[str]:
    return [sys.executable, "-m", "shardmart.ledger", *words, "--state", str(shop.cluster.folder), "--json"]


@contextmanager
def orders(shop: RunningShop, journal: Path, acknowledged: int = ACKNOWLEDGED) -> Iterator[None]:
    """Orders while the block runs, and on until so many operations were acknowledged in all."""
    run = ledger(shop, "run", "--workload", "shop", "--journal", str(journal), "--clients", "3")
    run += ["--rate", "15", "--duration", "600", "--operation-timeout", "60"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:

        def done() -> int:
            assert running.poll() is None, running.communicate()
            return sum(window.ok for window in read_windows(journal))

        try:
            wait_until(lambda: done() >= acknowledged // 4, "the first orders")
            yield
            wait_until(lambda: done() >= acknowledged, "enough orders")
        finally:
            running.send_signal(signal.SIGTERM)
            said = running.communicate(timeout=120)
    assert running.returncode == 0, said


def check(shop: RunningShop, journal: Path, wait: int) -> dict[str, Any]:
    """The verdict; `wait` seconds for the shop to come to rest."""
    command = ledger(shop, "check", str(journal), "--wait", str(wait))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["clean"] else 1)
    return verdict


def restart(shop: RunningShop, service: str, *faults: str) -> None:
    """Kill the one instance of a service and start it again, with these mistakes."""
    (instance,) = shop.instances[service]
    instance.kill(signal.SIGKILL)
    shop.settings_of(service)["faults"] = list(faults)
    shop.start(instance)


def details(verdict: dict[str, Any], kind: str) -> list[str]:
    return [anomaly["detail"] for anomaly in verdict["anomalies"] if anomaly["kind"] == kind]
