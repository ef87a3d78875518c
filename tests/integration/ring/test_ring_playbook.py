"""`playbooks/ring.yml`: converges, changes nothing twice, moves to a node that the topology has more, stops."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import ServerSelectionTimeoutError

from shardmart.ring import RingClient
from shardmart.ring import settings as settings_file
from tests.support.clusters import free_ports
from tests.support.plays import Site

PLAYBOOK = "playbooks/ring.yml"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.write(rings=[{"name": "carts", "nodes": 3, "port": free_ports(5)[0], "virtual_nodes": 64}])
    yield made
    if made.state.exists():
        destroyed = made.play("playbooks/destroy.yml", "-e", "destroy_data=true")
        assert destroyed.code == 0, destroyed.output
        assert not (made.state / "rings").exists()


def status(site: Site) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("shardmart")), "ring", "status", "--json", "--state", str(site.state)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_a_ring_converges_grows_while_it_holds_data_and_a_second_run_changes_nothing(site: Site) -> None:
    planned = site.play(PLAYBOOK, "--check")
    assert planned.code == 0, planned.output
    assert not site.state.exists()

    first = site.play(PLAYBOOK)
    assert first.code == 0, first.output
    file = site.state / "rings" / "carts" / "settings.json"
    assert file.stat().st_mode & 0o777 == 0o600
    second = site.play(PLAYBOOK)
    assert set(second.changed.values()) == {0}, second.output

    async def fill() -> None:
        async with RingClient(settings_file.read(file), upkeep=False) as ring:
            await ring.put_many((f"key-{n}", n) for n in range(300))

    async def values() -> set[int]:
        async with RingClient(settings_file.read(file), upkeep=False) as ring:
            assert "carts-4" in ring.view.ring.weights
            return {one.value async for one in ring.iterate()}

    asyncio.run(fill())
    site.write(rings=[site.document["rings"][0] | {"nodes": 4}])
    grown = site.play(PLAYBOOK)
    assert grown.code == 0, grown.output
    assert asyncio.run(values()) == set(range(300))
    code, shown = status(site)
    assert code == 0, shown
    assert [node["name"] for node in shown["nodes"]] == [f"carts-{n}" for n in range(1, 5)]  # type: ignore[attr-defined]

    stopped = site.play(PLAYBOOK, "-e", "rings_state=absent")
    assert stopped.code == 0, stopped.output
    again = site.play(PLAYBOOK)  # every node was started again: compared, then it serves
    assert again.code == 0, again.output
    assert asyncio.run(values()) == set(range(300))


def test_a_ring_beside_a_cluster_with_tls_speaks_nothing_else(site: Site) -> None:
    site.write(rings=[site.document["rings"][0] | {"nodes": 2}], tls={"mode": "requireTLS"})
    first = site.play(PLAYBOOK)
    assert first.code == 0, first.output
    settings = settings_file.read(site.state / "rings" / "carts" / "settings.json")

    async def work() -> None:
        async with RingClient(settings, upkeep=False) as ring:
            done = await ring.put("key", "value")
            assert sorted(done.nodes) == ["carts-1", "carts-2"]

    asyncio.run(work())
    for uri in (*settings.nodes.values(), settings.store):
        plain, _, _ = uri.partition("&tls=true")
        assert plain != uri
        client: MongoClient[dict[str, object]] = MongoClient(plain, serverSelectionTimeoutMS=500, directConnection=True)
        with client, pytest.raises(ServerSelectionTimeoutError):
            client.admin.command("ping")
    again = site.play(PLAYBOOK)
    assert set(again.changed.values()) == {0}, again.output
