"""A ring on this machine whose servers are given another configuration, or of which one is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shardmart.declare.rings import Ring, RingNode
from shardmart.platforms import embedded_ring
from shardmart.platforms.embedded_ring import EmbeddedRing
from shardmart.ring import NotAcknowledgedError, RingClient, Settings
from shardmart.ring import settings as settings_file
from tests.support.clusters import free_ports, servers

WAIT_SECONDS = 120.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[EmbeddedRing]:
    """A ring of three nodes that runs."""
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "ring-carts-ring.password").write_text("ring")
    ring = declared(tmp_path, nodes=3, port=free_ports(6)[0])
    try:
        converge(ring)
        yield ring
    finally:
        ring.stop(wait_seconds=WAIT_SECONDS, check=False)


def declared(state: Path, *, nodes: int, port: int, cache_mb: int = 256) -> EmbeddedRing:
    wanted = Ring(name="carts", nodes=[RingNode(weight=1)] * nodes, port=port, virtual_nodes=64, cache_mb=cache_mb)
    return EmbeddedRing(wanted.as_variable(), state)


def converge(ring: EmbeddedRing) -> list[str]:
    mongod = servers()["mongod"]
    assert mongod
    return ring.converge(mongod, wait_seconds=WAIT_SECONDS, check=False)


def settings(ring: EmbeddedRing) -> Settings:
    return replace(settings_file.read(ring.settings_file), timeout_seconds=5.0)


@pytest.mark.full
def test_servers_with_another_configuration_restart_one_at_a_time_and_the_ring_answers(made: EmbeddedRing) -> None:
    port = made.declared["store"]["port"]

    async def test() -> None:
        async with RingClient(settings(made), upkeep=False) as client:
            await client.put_many((f"key-{n}", n) for n in range(100))
            other = declared(made.state, nodes=3, port=port, cache_mb=300)
            restart = asyncio.create_task(asyncio.to_thread(converge, other))
            answers = 0
            away: set[str] = set()
            while not restart.done():
                try:
                    await client.put(f"key-{answers % 100}", answers)
                except NotAcknowledgedError:  # it was under way when its node stopped
                    await client.put(f"key-{answers % 100}", answers)
                found = await client.get(f"key-{answers % 100}")
                assert found
                assert found.value == answers
                away |= set(client.nodes.away())
                answers += 1
            names = ("carts-store", "carts-1", "carts-2", "carts-3")
            assert {f"restart {name}: its configuration changed" for name in names} <= set(await restart)
            assert away == set(names[1:])
            assert answers > 3

    asyncio.run(test())


@pytest.mark.full
def test_a_server_that_an_interrupted_run_left_is_stopped_by_the_next(
    made: EmbeddedRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = made.declared["store"]["port"]
    converge(declared(made.state, nodes=4, port=port))

    def killed(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded_ring.EmbeddedRing, "_stop_others", killed)
        with pytest.raises(KeyboardInterrupt):
            converge(made)
    assert set(settings_file.read(made.settings_file).nodes) == {"carts-1", "carts-2", "carts-3"}
    assert converge(made) == ["stop carts-4"]
    assert converge(made) == []
