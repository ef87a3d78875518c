"""Claims of the nodes where the cluster speaks TLS: so do clients, peers and foreign tables, and nobody else."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from shardmart.cluster.host import certificates
from shardmart.cluster.protocol.connection import Deadline
from shardmart.errors import UnreachableError
from shardmart.fragments.configuration import ADMIN, DATABASE, Trust
from shardmart.fragments.connection import administrator, application, rows, scalar
from shardmart.fragments.peers import status
from shardmart.fragments.relational.shop import RelationalShop
from shardmart.platforms import postgres
from shardmart.platforms.postgres import programs
from tests.support.region_nodes import REGIONS, RegionNodes, region_nodes, until

# Maven fetches a PostgreSQL with OpenSSL, 15 MB.
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("mvn") is None, reason="PostgreSQL with TLS is fetched by Maven"),
]
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture(scope="module")
def authority() -> certificates.Pair:
    return certificates.make_authority("test")


@pytest.fixture(scope="module")
def nodes(authority: certificates.Pair) -> Iterator[RegionNodes]:
    """They spoke no TLS, and were switched to it as `make fragments` does."""
    with region_nodes() as running:
        RelationalShop(running.configuration).create_product("before", "Kettle", "Home", "300.00", 3)
        running.certify(authority)
        switched = postgres.converge(list(running.servers.values()), Deadline(120))
        assert switched == [f"configure {name} and restart it" for name in REGIONS]
        changes = running.apply()
        assert {line for line in changes if "change server" in line or "change the connection" in line} == {
            *(f"{name}: change server node_{other.lower()}" for name in REGIONS for other in REGIONS if other != name),
            *(
                f"{name}: subscription to {other}: change the connection"
                for name in REGIONS
                for other in REGIONS
                if other != name
            ),
        }
        assert running.apply() == []
        yield running


def test_clients_peers_and_foreign_tables_come_by_tls_and_the_shop_goes_on(nodes: RegionNodes) -> None:
    with application(nodes.configuration, nodes.node("APJ")) as connection:
        # Its foreign scans keep their connections while this one is open.
        assert scalar(connection, "SELECT count(*) FROM Products WHERE product_id = 'before'") == 1
        for name in REGIONS:
            with administrator(nodes.configuration, nodes.node(name)) as looking:
                found = rows(
                    looking,
                    """SELECT usename, backend_type, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                    WHERE client_addr IS NOT NULL""",
                )
            assert {speaks for _, _, speaks in found} == {True}
            assert [kind for user, kind, _ in found if user == "peer"].count("walsender") == 2, "both peers are told"
            if name != "APJ":
                assert ("peer", "client backend") in {(user, kind) for user, kind, _ in found}, "a foreign scan of APJ"
    assert status.status(nodes.configuration, settle_seconds=60)["problems"] == []


def test_who_does_not_speak_tls_is_refused(nodes: RegionNodes) -> None:
    node = nodes.node("EMEA")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry for host .* no encryption"):
        psycopg.connect(
            host=node.host, port=node.port, user=ADMIN, dbname=DATABASE, sslmode="disable",
            password=nodes.configuration.password(ADMIN),
        )  # fmt: skip


def test_a_node_of_another_authority_is_not_spoken_to(nodes: RegionNodes) -> None:
    stranger = nodes.folder / "tls" / "stranger.pem"
    stranger.write_bytes(certificates.make_authority("stranger").certificate)
    stores = replace(nodes.configuration, tls=Trust(str(stranger), str(stranger)))
    with pytest.raises(UnreachableError, match="do not agree on TLS"), application(stores, nodes.node("EMEA")):
        pass


def served(nodes: RegionNodes, name: str) -> bytes:
    """The certificate that a node shows."""
    node = nodes.node(name)
    with socket.create_connection((node.host, node.port), timeout=10) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(nodes.folder / "tls" / "ca.pem"))
        with context.wrap_socket(plain, server_hostname=node.host) as speaking:
            shown = speaking.getpeercert(binary_form=True)
    assert shown
    return shown


def test_a_renewed_certificate_is_served_without_a_restart(nodes: RegionNodes, authority: certificates.Pair) -> None:
    before = {name: served(nodes, name) for name in REGIONS}
    running = {name: server.running() for name, server in nodes.servers.items()}
    nodes.certify(authority)
    changes = postgres.converge(list(nodes.servers.values()), Deadline(60))
    assert changes == [f"renew the certificate of {name}" for name in REGIONS]
    for name in REGIONS:
        until(f"{name} to serve the new one", lambda name=name: served(nodes, name) != before[name])  # type: ignore[misc]
    assert {name: server.running() for name, server in nodes.servers.items()} == running
    assert postgres.converge(list(nodes.servers.values()), Deadline(60)) == []


def test_a_jar_that_is_not_the_pinned_one_is_not_used(nodes: RegionNodes) -> None:
    binaries = nodes.folder / "other"
    binaries.mkdir()
    (binaries / programs.JAR).write_bytes(b"PK")
    with pytest.raises(Exception, match=r"sha256 is .*; it is not used"):
        programs.have(nodes.folder / "nowhere", binaries)
