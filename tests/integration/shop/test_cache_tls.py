"""The cache of a shop whose cluster speaks TLS: nobody is answered without it, clients check whom they reach, the
server behind has no port for clients, and a renewed certificate is served without a restart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host import certificates
from shardmart.cluster.observe.health import DOWN
from shardmart.cluster.observe.shop import NOBODY_BEHIND, ask_cache
from shardmart.cluster.shop import CACHE_BUS_PORTS
from shardmart.ledger.shop.stores import _of_cache
from shardmart.shop.adapters.redis_cache import RedisStocks
from shardmart.shop.adapters.redis_cluster import RedisClusterCache
from shardmart.shop.domain.stock import Stock
from shardmart.shop.ports import StoreError
from tests.support.caches import SECONDS, RunningCache, running_cache
from tests.support.certified import certify, shown, stranger
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
PRODUCT = "f" * 24
TLS_ALERT = b"\x15"
"""The first byte of a refusal (RFC 8446, 5.1)."""


@pytest.fixture(scope="module", params=["redis", "redis-cluster"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCache]:
    with running_cache(tmp_path_factory.mktemp("cache"), request.param, tls=True) as running:
        yield running


def authority(cache: RunningCache) -> Path:
    return cache.state / "tls" / "ca.pem"


def test_a_second_run_changes_nothing(cache: RunningCache) -> None:
    assert cache.converge(check_mode=True) == []
    assert cache.converge() == []


def test_nobody_is_answered_without_tls(cache: RunningCache) -> None:
    login = f"AUTH shop {cache.secret('shop-cache')}\r\nPING\r\n".encode()
    for node in cache.shop.caches:
        with socket.create_connection((node.host, node.port), timeout=SECONDS) as plain:
            plain.sendall(login)
            try:
                told = plain.recv(100)
            except ConnectionResetError:
                continue
            assert told[:1] in (b"", TLS_ALERT), told


def test_the_server_listens_in_a_folder_of_its_owner_and_on_no_port_but_the_nodes_own(cache: RunningCache) -> None:
    for node in cache.shop.caches:
        process = cache.process(node.name)
        live = process.running()
        assert live
        ports = {one.laddr.port for one in live.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        assert ports == ({node.port + CACHE_BUS_PORTS} if cache.shop.cache_nodes else set())
        assert process.unix_socket
        assert process.unix_socket.stat().st_mode & 0o777 == 0o600
        assert process.unix_socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_server_of_another_authority_is_not_spoken_to(cache: RunningCache) -> None:
    other = stranger(cache.state)
    node = cache.shop.caches[0]
    with (
        redis.Redis(
            host=node.host, port=node.port, ssl=True, ssl_ca_certs=str(other), retry=Retry(NoBackoff(), 0)
        ) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()
    asked = ask_cache(node, other)
    assert (asked.ready, asked.state) == (False, DOWN)
    url = cache.url.replace("ca.pem", other.name)

    async def claim() -> None:
        if cache.shop.cache_nodes:
            assert not await RedisClusterCache(url, SECONDS).put([Stock(PRODUCT, "EMEA", 1, available=7)])
            return
        with pytest.raises(StoreError):
            await RedisStocks(url, SECONDS).ping()

    asyncio.run(claim())


def test_services_and_the_ledger_read_the_same_by_tls(cache: RunningCache) -> None:
    async def claim() -> dict[str, int]:
        client = cache.client()
        assert await client.put([Stock(PRODUCT, "EMEA", 1, available=7)])
        if cache.shop.cache_nodes:
            return await client.stocks([PRODUCT])
        source = RedisStocks(cache.url, SECONDS)
        try:
            return await source.stocks([PRODUCT])
        finally:
            await source.close()

    assert asyncio.run(claim()) == {PRODUCT: 7}
    assert _of_cache(redis, cache.url, [f"stock:{PRODUCT}"]) == ["7"]


def test_status_tells_a_dead_server_from_its_tls_and_brings_each_back(cache: RunningCache) -> None:
    node = cache.shop.caches[0]
    assert cache.shop.cache_tls
    assert ask_cache(node, authority(cache)).ready
    cache.kill(node.name)
    asked = ask_cache(node, authority(cache))
    assert (asked.state, asked.reason) == (DOWN, NOBODY_BEHIND)
    cache.start(node.name)
    wait_until(lambda: ask_cache(node, authority(cache)).ready, "the server to answer again", SECONDS)
    cache.kill(cache.shop.cache_tls.name)
    asked = ask_cache(node, authority(cache))
    assert (asked.state, asked.reason) == (DOWN, "Connection refused")
    assert cache.converge() == [f"start {cache.shop.cache_tls.name}"]
    assert ask_cache(node, authority(cache)).ready


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    with running_cache(tmp_path / "cache", "redis", tls=True) as cache:
        node = cache.shop.caches[0]

        def served() -> bytes:
            return shown(node.port, authority(cache))

        assert cache.shop.cache_tls
        before, running = served(), cache.process(cache.shop.cache_tls.name).running()
        certify(cache.state)  # of another authority
        wait_until(lambda: _is_new(served, before), "the new certificate", SECONDS)
        assert cache.process(cache.shop.cache_tls.name).running() == running
        assert cache.converge() == []


def _is_new(served: Any, before: bytes) -> bool:
    try:
        return bool(served() != before)
    except OSError:  # the former one, which the new authority did not sign
        return False


def test_a_path_that_is_too_long_for_a_socket_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    with (
        pytest.raises(ClusterError, match=r"cache-1\.sock: a socket's path has at most 107 bytes: .*SHARDMART_STATE"),
        running_cache(folder, "redis", tls=True),
    ):
        pass


def test_without_a_certificate_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.caches.certify", lambda _: certificates.make_authority("nobody"))
    with (
        pytest.raises(ClusterError, match=r"server\.pem is missing: the cluster's playbook makes it"),
        running_cache(tmp_path / "cache", "redis", tls=True),
    ):
        pass
