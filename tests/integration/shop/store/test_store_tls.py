"""PostgreSQL of a shop whose cluster speaks TLS: services and ledger come by TLS and check whom they reach, nobody else
is let in, and a renewed certificate is served without a restart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shardmart.cluster.errors import DeadlineError
from shardmart.cluster.host import certificates
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms import postgres, shop_certificates
from shardmart.platforms.postgres import programs
from shardmart.platforms.postgres.servers import CERTIFICATE
from shardmart.shop.adapters.postgres.connection import connect, encryption
from shardmart.shop.adapters.postgres.store import pool_of
from shardmart.shop.settings import Relational
from tests.support.certified import certify, shown, stranger
from tests.support.postgres_stores import ALL, RunningPostgres, running_postgres
from tests.support.shops import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("mvn") is None, reason="PostgreSQL with TLS is fetched by Maven"),
]


@pytest.fixture(scope="module")
def authority() -> certificates.Pair:
    return certificates.make_authority("test")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, authority: certificates.Pair) -> Iterator[RunningPostgres]:
    folder = tmp_path_factory.mktemp("postgres")
    certify(folder, authority)
    with running_postgres(folder, tls=True) as running:
        yield running


def asked(options: Relational) -> list[dict[str, Any]]:
    async def body() -> list[dict[str, Any]]:
        pool = pool_of(options, "test", 10)
        try:
            return await pool.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        finally:
            await pool.close()

    return asyncio.run(body())


def test_a_service_comes_by_tls(store: RunningPostgres) -> None:
    assert asked(store.options()) == [{"ssl": True}]
    assert store.prepare() == [], "the administrator came by TLS, too"


def test_who_does_not_speak_tls_is_refused(store: RunningPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry for host .* no encryption"):
        psycopg.connect(
            host=postgres.HOST, port=store.server.port, user=ALL, dbname="shop", sslmode="disable",
            password=store.passwords[ALL],
        )  # fmt: skip


def test_a_server_of_another_authority_or_name_is_not_spoken_to(store: RunningPostgres) -> None:
    other = store.options(ca_file=stranger(store.server.host.state))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        asyncio.run(connect(other))
    with pytest.raises(psycopg.OperationalError, match=r'does not match host name "other\.example"'):
        psycopg.connect(
            host="other.example", hostaddr=postgres.HOST, port=store.server.port, user=ALL, dbname="shop",
            password=store.passwords[ALL], **encryption(store.options()),
        )  # fmt: skip


def test_the_tools_that_patroni_calls_speak_tls_and_check_whom_they_reach(store: RunningPostgres) -> None:
    host = store.server.host
    programs.have_tools(host.home, host.program("pg_basebackup").parents[1])
    good, bad = host.home / "good.pem", host.home / "bad.pem"
    for file, content in ((good, store.authority), (bad, stranger(host.state))):
        assert content
        file.write_bytes(content.read_bytes())
        host.own(file)

    def asked(tool: str, more: str) -> str:
        at = f"host={postgres.HOST} port={store.server.port} user={ALL} dbname=shop"
        command = {
            "pg_basebackup": ["--pgdata", str(host.home / "copy"), "--dbname"],
            "pg_rewind": ["--dry-run", "--target-pgdata", str(store.server.folder), "--source-server"],
        }[tool]
        done = host.run([str(programs.tools(host.home) / tool), *command, f"{at} {more}"])
        assert done.returncode == 1
        return done.stderr

    checked = "sslcertmode=disable sslmode=verify-full sslrootcert="
    assert "no pg_hba.conf entry for replication" in asked("pg_basebackup", "sslmode=disable")
    assert "SSL encryption" in asked("pg_basebackup", f"{checked}{good}"), "it may not replicate, but it came by TLS"
    assert "certificate verify failed" in asked("pg_basebackup", f"{checked}{bad}")
    assert "certificate verify failed" in asked("pg_rewind", f"{checked}{bad}")
    assert host.run([str(programs.tools(host.home) / "pg_controldata"), str(store.server.folder)]).returncode == 0


def test_a_renewed_certificate_is_served_without_a_restart(
    store: RunningPostgres, authority: certificates.Pair
) -> None:
    folder, before, server = store.server.host.state, served(store), store.server.running()
    certify(folder, authority)
    assert postgres.converge([store.server], Deadline(60)) == ["renew the certificate of store"]
    wait_until(lambda: served(store) != before, "the new certificate", 60)
    assert store.server.running() == server
    assert postgres.converge([store.server], Deadline(60)) == []
    assert asked(store.options()) == [{"ssl": True}]


class Secrets:
    """The Kubernetes API with one Secret, the certificate of the state folder."""

    def __init__(self, state: Path) -> None:
        files = {"ca.crt": state / "tls" / "ca.pem", "tls.pem": state / "tls" / "server.pem"}
        self._data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}

    def call(self, method: str, path: str, body: Any = None, *, group: str = "") -> Any:
        """See PodApi."""
        assert (method, path, body, group) == ("GET", "secrets/store-tls", None, "")
        return {"data": self._data}


def test_one_in_a_pod_is_told_until_it_serves_what_lies_in_its_secret(
    store: RunningPostgres, authority: certificates.Pair, tmp_path: Path
) -> None:
    folder, server = store.server.host.state, store.server.running()
    certify(folder, authority)
    address, password = f"{postgres.HOST}:{store.server.port}", store.server.password_file.read_text().strip()
    certificate = shop_certificates.wanted(Secrets(folder), "store-tls", tmp_path)

    def told(seconds: float) -> list[str]:
        return shop_certificates.tell_postgres(address, certificate, store.server.superuser, password, seconds)

    with pytest.raises(DeadlineError, match=f"to serve certificate {certificate.fingerprint[:12]}; it served"):
        told(1)  # the file has not come yet
    (store.server.folder / CERTIFICATE).write_bytes((folder / "tls" / "server.pem").read_bytes())
    (change,) = told(60)
    assert change.startswith(f"{address}: serves certificate {certificate.fingerprint[:12]}; before, it served")
    assert hashlib.sha256(served(store)).hexdigest() == certificate.fingerprint
    assert store.server.running() == server
    assert told(60) == []


def served(store: RunningPostgres) -> bytes:
    assert store.authority
    return shown(store.server.port, store.authority, postgres=True)
