"""PostgreSQL under Patroni on real servers, as the shop's own connections see it: its leader is killed, and what was
acknowledged is there; nobody gets in without a password; a second run changes nothing."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from shardmart.cluster.host.certificates import Pair
from shardmart.cluster.host.processes import has_ended, send_signal
from shardmart.cluster.observe import patroni as observe
from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import PATRONI_PORTS, Instance
from shardmart.platforms import patroni
from shardmart.platforms.patroni import etcd
from shardmart.platforms.patroni.cluster import PASSWORDS
from shardmart.shop.adapters.postgres.connection import encryption
from shardmart.shop.adapters.postgres.store import pool_of
from shardmart.shop.ports import StoreError
from shardmart.shop.settings import Relational
from tests.support.certified import certify, shown
from tests.support.clusters import free_ports
from tests.support.postgres_home import postgres_home
from tests.support.shops import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.full]
WAIT_SECONDS = 300


@pytest.fixture(
    scope="module",
    params=[
        "plain",
        pytest.param(
            "TLS",
            marks=pytest.mark.skipif(shutil.which("mvn") is None, reason="PostgreSQL with TLS is fetched by Maven"),
        ),
    ],
)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[patroni.Store]:
    state = tmp_path_factory.mktemp("patroni") / "state"
    (state / "secrets").mkdir(parents=True, mode=0o700)
    for name in PASSWORDS.values():
        file = state / "secrets" / f"{name}.password"
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(20))
    ports = free_ports(16)
    made = patroni.Store(
        tuple(Instance(f"shop-postgres-{n + 1}", "127.0.0.1", ports[n]) for n in range(3)),
        tuple(Instance(f"shop-etcd-{n + 1}", "127.0.0.1", ports[3 + n]) for n in range(3)),
        state,
        tls=request.param == "TLS",
    )
    if made.tls:
        certify(state)
    with postgres_home("patroni"):
        try:
            patroni.converge(made, Deadline(WAIT_SECONDS * 3))  # etcd may have to be built
            yield made
        finally:
            patroni.remove(state, Deadline(WAIT_SECONDS))


def options(store: patroni.Store) -> Relational:
    """How the shop is told of the servers."""
    document = {
        "host": ",".join(node.host for node in store.nodes),
        "port": ",".join(str(node.port) for node in store.nodes),
        "database": "postgres",
        "user": "postgres",
        "password": store.password("postgres"),
    }
    if store.tls:
        document["ca_file"] = str(store.state / "tls" / "ca.pem")
    return Relational.model_validate(document)


def test_a_second_run_changes_nothing(store: patroni.Store) -> None:
    assert patroni.converge(store, Deadline(WAIT_SECONDS), check_mode=True) == []
    assert patroni.converge(store, Deadline(WAIT_SECONDS)) == []


def test_nobody_gets_in_without_a_password(store: patroni.Store) -> None:
    with pytest.raises(etcd.EtcdError, match="refuses"):
        etcd.call(store.etcd[0], "/v3/kv/range", {"key": "AA==", "range_end": "AA=="})
    token = etcd.login(store.etcd[0], etcd.PATRONI, store.password(etcd.PATRONI))
    with pytest.raises(etcd.EtcdError, match="permission denied"):
        etcd.call(store.etcd[0], "/v3/kv/range", {"key": "AA==", "range_end": "AA=="}, token)
    node = store.nodes[0]
    connection = http.client.HTTPConnection(node.host, node.port + PATRONI_PORTS, timeout=30)
    connection.request("PATCH", "/config", '{"ttl": 300}')
    assert connection.getresponse().status == http.client.UNAUTHORIZED
    connection.close()
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host=node.host, port=node.port, user="postgres", dbname="postgres", passfile="/dev/null")
    if store.tls:
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry for host .* no encryption"):
            psycopg.connect(
                host=node.host, port=node.port, user="postgres", dbname="postgres", sslmode="disable",
                password=store.password("postgres"),
            )  # fmt: skip


def test_who_follows_comes_by_tls_and_a_renewed_certificate_is_read_without_a_restart(store: patroni.Store) -> None:
    if not store.tls:
        pytest.skip("without TLS there is none")

    async def rows() -> list[dict[str, Any]]:
        pool = pool_of(options(store), "patroni", 5.0)
        try:
            return await pool.rows(
                """SELECT usename, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE client_addr IS NOT NULL"""
            )
        finally:
            await pool.close()

    found = asyncio.run(rows())
    assert [row["usename"] for row in found].count("replicator") == 2
    assert {row["ssl"] for row in found} == {True}
    authority, live = store.state / "tls" / "ca.pem", [store.server(node).running() for node in store.nodes]
    before = [shown(node.port, authority, postgres=True) for node in store.nodes]
    certify(store.state, Pair(authority.read_bytes(), (store.state / "tls" / "ca-key.pem").read_bytes()))
    renewed = [f"renew the certificate of {node.name}" for node in store.nodes]
    assert patroni.converge(store, Deadline(WAIT_SECONDS), check_mode=True) == renewed
    assert patroni.converge(store, Deadline(WAIT_SECONDS)) == renewed
    for node, old in zip(store.nodes, before, strict=True):
        wait_until(
            lambda node=node, old=old: shown(node.port, authority, postgres=True) != old,  # type: ignore[misc]
            f"the new certificate of {node.name}",
            WAIT_SECONDS,
        )
    assert [store.server(node).running() for node in store.nodes] == live
    assert patroni.converge(store, Deadline(WAIT_SECONDS)) == []


def test_what_the_leader_acknowledged_is_there_after_it_was_killed_and_it_comes_back_as_a_follower(
    store: patroni.Store,
) -> None:
    killed = observe.leader(store.nodes)
    assert killed
    server = store.server(killed).running()
    assert server
    watcher = store.place(killed).process().running()
    assert watcher
    acknowledged: list[int] = []

    async def body() -> tuple[int, set[int]]:
        pool = pool_of(options(store), "patroni", 5.0)
        await pool.rows("CREATE TABLE IF NOT EXISTS taken (n integer PRIMARY KEY)")
        for n in range(50):
            await pool.rows("INSERT INTO taken VALUES (%s)", [n])
            acknowledged.append(n)
        # Those that serve the pool, too: one that was not killed yet may still take a write, and have it acknowledged.
        victims = [watcher, server, *server.children(recursive=True)]
        for victim in victims:
            send_signal(victim, signal.SIGKILL)
        wait_until(lambda: all(map(has_ended, victims)), "the leader has ended", WAIT_SECONDS)
        end = asyncio.get_running_loop().time() + WAIT_SECONDS
        n = refused = 1000
        while acknowledged[-1] < refused:
            assert asyncio.get_running_loop().time() < end, "nothing was acknowledged after the leader's death"
            n += 1
            try:
                await pool.rows("INSERT INTO taken VALUES (%s) ON CONFLICT DO NOTHING", [n])
                acknowledged.append(n)
            except (StoreError, TimeoutError):
                await asyncio.sleep(0.1)
        rows = await pool.rows("SELECT n FROM taken")
        await pool.close()
        return n, {row["n"] for row in rows}

    tried, there = asyncio.run(body())
    assert tried > 1001, "a write was refused while nobody led"
    assert [n for n in acknowledged if n not in there] == []
    successor = observe.leader(store.nodes)
    assert successor
    assert successor != killed

    assert patroni.start(store, [killed.name], Deadline(WAIT_SECONDS)) == [f"start {killed.name}"]
    roles = {one.node.name: (one.leads, one.follows) for one in observe.members(store.nodes)}
    assert roles.pop(successor.name) == (True, False)
    assert set(roles.values()) == {(False, True)}
    with psycopg.connect(
        host=killed.host,
        port=killed.port,
        user="postgres",
        password=store.password("postgres"),
        dbname="postgres",
        **encryption(options(store)),
    ) as connection:
        rows = connection.execute("SELECT n FROM taken").fetchall()
    assert [n for n in acknowledged if (n,) not in rows] == []
    assert patroni.converge(store, Deadline(WAIT_SECONDS)) == []
