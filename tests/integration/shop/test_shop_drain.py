"""An instance that is told to stop under load: it says so, drops no request, and no open stream holds it up."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.clusters import ROOT, free_ports
from tests.support.shop_apps import MINE
from tests.support.shops import wait_until

CLIENTS, ENOUGH = 4, 40


@contextmanager
def instance(service: str, folder: Path, drain_seconds: float) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running instance: its address and its process.

    `drain_seconds`: it listens for so long after SIGTERM; what was begun before it said so must arrive within that.
    """
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.support.shop_instance", service, str(port), str(drain_seconds), str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), f"{service} to be ready")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(30)


def is_ready(url: str) -> bool:
    """What a load balancer asks."""
    try:
        return requests.get(f"{url}/readyz", timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


def test_no_request_is_dropped_by_an_instance_that_stops_under_load(tmp_path: Path) -> None:
    taken: list[int] = []
    enough = threading.Event()

    def client(number: int, url: str) -> int:
        """Order, until the instance says that it is not ready; as a load balancer would, but without a pause."""
        orders = 0
        with requests.Session() as session:
            while (looked := session.get(f"{url}/readyz", timeout=60)).status_code == 200:
                headers = MINE | {"Idempotency-Key": f"{number}-{orders}"}
                body = {"items": [{"product_id": "tea", "quantity": 1}]}
                answer = session.post(f"{url}/orders", json=body, headers=headers, timeout=60)
                assert answer.status_code == 201, answer.text
                orders += 1
                taken.append(number)
                if len(taken) >= ENOUGH:
                    enough.set()
            assert looked.headers["Connection"] == "close", "an idle connection must not be sent on once more"
        return orders

    with instance("order", tmp_path, 10) as (url, process), ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number, url) for number in range(CLIENTS)]
        wait_until(lambda: enough.is_set() or any(each.done() for each in clients), "enough orders")
        process.send_signal(signal.SIGTERM)
        assert sum(each.result(300) for each in clients) == len(taken) >= ENOUGH
        assert process.wait(120) == 0


def test_an_open_stream_ends_whole_and_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with instance("notification", tmp_path, 0.5) as (url, process):
        with requests.get(f"{url}/stream", headers=MINE, stream=True, timeout=120) as stream:
            lines = stream.iter_lines()
            assert next(lines) == b"retry: 1000"
            process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line] == []  # it ends as an answer ends, not by a broken connection
        assert process.wait(120) == 0
        assert b"Cancel" not in (tmp_path / "log").read_bytes(), "nothing had to be cut off"
