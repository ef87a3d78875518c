"""A cluster with `tls.mode: requireTLS`, made by `site.yml`: who is let in, who is not, and a renewal under load."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from shardmart.cluster.converge import rotation
from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host import certificates
from shardmart.cluster.protocol.connection import Credentials, Tls, answers_without_tls, connect
from tests.support.clusters import ROOT, EmbeddedCluster
from tests.support.plays import Site

pytestmark = pytest.mark.long

CONNECTIONS_OF_THEIR_OWN = 2
WRITES = 40
"""What each writer has to have written before and after the rotation, so that there was load on both sides of it."""
PAUSE_SECONDS = 0.03
"""Between two writes of a writer: without it handshakes and SCRAM take the cores from the play that they watch."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One config server, a shard of three members, a shard of one, a router; seeded and verified."""
    made = Site(tmp_path_factory.mktemp("tls"), members=3)
    shards = [made.document["shards"][0], made.document["shards"][1] | {"members": 1}]
    made.write(tls={"mode": "requireTLS"}, shards=shards)
    try:
        played = made.play("site.yml")
        assert played.code == 0, played.output
        yield made
    finally:
        made.cluster().destroy()


@pytest.fixture
def cluster(site: Site) -> EmbeddedCluster:
    return site.cluster()


def servers(cluster: EmbeddedCluster) -> list[str]:
    """Addresses of every member, then of every router."""
    sets = cluster.description.replica_sets
    return [m.address for s in sets for m in s.members] + [r.address for r in cluster.description.routers]


def served(cluster: EmbeddedCluster) -> set[str]:
    """Fingerprints of the certificates that the servers show."""
    assert cluster.tls
    return {rotation.served(server, cluster.tls) for server in servers(cluster)}


def on_disk(cluster: EmbeddedCluster) -> str:
    return certificates.fingerprint((cluster.folder / "tls" / "server.pem").read_bytes())


def test_second_run_changes_nothing(site: Site) -> None:
    played = site.play("site.yml")
    assert played.code == 0, played.output
    assert set(played.changed.values()) == {0}, played.output


def test_plaintext_client_is_refused_by_every_server(cluster: EmbeddedCluster) -> None:
    for server in servers(cluster):
        with socket.create_connection(tuple(server.split(":")), timeout=5):
            pass
        assert not answers_without_tls(server), server


def test_client_refuses_servers_of_another_authority(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    stranger = tmp_path / "ca.pem"
    stranger.write_bytes(certificates.make_authority("somebody else").certificate)
    for server in servers(cluster):
        with pytest.raises(ClusterError, match=r"certificate .* is not accepted"):
            rotation.served(server, Tls(str(stranger)))
    with (
        connect(cluster.router, Credentials(tls=Tls(str(stranger))), timeout_seconds=2) as client,
        pytest.raises(PyMongoError, match="certificate verify failed"),
    ):
        client.admin.command("hello")


def test_certificate_is_for_the_servers_own_names_only(cluster: EmbeddedCluster) -> None:
    assert cluster.tls
    context = ssl.create_default_context(cafile=cluster.tls.ca_file)
    for server in servers(cluster):
        host, port = server.split(":")
        for name, accepted in ((host, True), ("localhost", True), ("elsewhere.example", False)):
            with socket.create_connection((host, int(port)), timeout=5) as plain:
                if accepted:
                    context.wrap_socket(plain, server_hostname=name).close()
                else:
                    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
                        context.wrap_socket(plain, server_hostname=name)


def test_members_use_the_keyfile_and_clients_scram(cluster: EmbeddedCluster) -> None:
    for member in cluster.set_of("shard1ReplSet").members:
        with connect(member.address, cluster.members_credentials) as client:
            status = client.admin.command("serverStatus")["security"]["authentication"]["mechanisms"]
            options = client.admin.command("getCmdLineOpts")["parsed"]
        assert status["SCRAM-SHA-256"]["clusterAuthenticate"]["successful"] > 0
        assert status["MONGODB-X509"]["clusterAuthenticate"]["received"] == 0
        assert options["security"]["keyFile"]
        assert options["net"]["tls"]["mode"] == "requireTLS"
    with cluster.client() as client:
        users = client.admin.command("usersInfo", 1, showCredentials=True)["users"]
    assert users
    assert all(list(user["credentials"]) == ["SCRAM-SHA-256"] for user in users)


def test_certificate_alone_opens_no_door(cluster: EmbeddedCluster) -> None:
    assert cluster.tls
    own = {
        "tls": True,
        "tlsCAFile": cluster.tls.ca_file,
        "tlsCertificateKeyFile": str(cluster.folder / "tls/server.pem"),
    }
    for server in (servers(cluster)[1], cluster.router):
        with (
            MongoClient(f"mongodb://{server}/?directConnection=true", authMechanism="MONGODB-X509", **own) as client,
            pytest.raises(OperationFailure),
        ):
            client.admin.command("listDatabases")
        with (
            MongoClient(f"mongodb://{server}/?directConnection=true", **own) as client,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            client.admin.command("listDatabases")


def test_commands_connect_with_tls(site: Site) -> None:
    """Loader, verification and status ran in site.yml; the ledger runs and checks here."""
    journal = site.state.parent / "journal"
    for arguments in (["run", "--duration", "3", "--clients", "1", "--journal", str(journal)], ["check", str(journal)]):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("shardmart")), "ledger", *arguments],
            cwd=ROOT, env=dict(site.environment()), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


class Writer(threading.Thread):
    """Inserts with write concern majority, one after the other, until told to stop; every error is kept.

    With `reconnect` each write comes over connections of its own: the handshake is what a renewal could break.
    """

    def __init__(self, cluster: EmbeddedCluster, name: str, *, reconnect: bool) -> None:
        super().__init__(name=name, daemon=True)
        self._cluster = cluster
        self._reconnect = reconnect
        self._ending = threading.Event()
        self.written = 0
        self.errors: list[str] = []

    def run(self) -> None:
        client = self._cluster.client()
        while not self._ending.wait(PAUSE_SECONDS):
            if self._reconnect:
                client.close()
                client = self._cluster.client()
            collection = client["ecommerce"].get_collection("rotation", write_concern=WriteConcern("majority"))
            try:
                collection.insert_one({"_id": f"{self.name}-{self.written}"})
                self.written += 1
            except PyMongoError as error:
                self.errors.append(str(error))
        client.close()

    def stop(self) -> None:
        self._ending.set()
        self.join(60)


def until(what: str, condition: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def test_renewal_is_not_noticed_by_writers(site: Site, cluster: EmbeddedCluster) -> None:
    before, terms = served(cluster), elections(cluster)
    assert before == {on_disk(cluster)}
    pids = {name: found.pid for name, process in cluster.processes.items() if (found := process.running())}
    planned = site.play("playbooks/rotate-certificates.yml", "--check")
    assert planned.changed == {"controller": 1, "toolbox": 2}, planned.output
    assert served(cluster) == before == {on_disk(cluster)}

    writers = [Writer(cluster, f"w{n}", reconnect=n > 0) for n in range(1 + CONNECTIONS_OF_THEIR_OWN)]
    for writer in writers:
        writer.start()
    try:
        until("every writer to write", lambda: all(w.written > WRITES for w in writers))
        played = site.play("playbooks/rotate-certificates.yml")
        assert played.code == 0, played.output
        marks = [writer.written for writer in writers]
        until("every writer to go on", lambda: all(w.written > m + WRITES for w, m in zip(writers, marks, strict=True)))
    finally:
        for writer in writers:
            writer.stop()
    assert [error for writer in writers for error in writer.errors] == []
    assert played.changed == {"controller": 1, "toolbox": 2}, played.output
    assert served(cluster) == {on_disk(cluster)} != before
    with cluster.client() as client:
        assert client["ecommerce"]["rotation"].count_documents({}) == sum(w.written for w in writers)
    after = {name: found.pid for name, process in cluster.processes.items() if (found := process.running())}
    assert after == pids, "no server was restarted"
    assert elections(cluster) == terms, "no primary was elected"


def test_interrupted_renewal_is_finished_by_the_next_run(site: Site, cluster: EmbeddedCluster) -> None:
    """Killed after the file was written and before any server was told."""
    authority = certificates.Pair(
        (cluster.folder / "tls" / "ca.pem").read_bytes(), (cluster.folder / "tls" / "ca-key.pem").read_bytes()
    )
    names = cluster.description.tls.names
    new = certificates.make_server_certificate(authority, names, 90)
    (cluster.folder / "tls" / "server.pem").write_bytes(new.combined)
    assert on_disk(cluster) not in served(cluster)
    finished = site.play("playbooks/rotate-certificates.yml", "-e", "certificates_renew=false")
    assert finished.changed == {"controller": 0, "toolbox": 2}, finished.output
    assert served(cluster) == {on_disk(cluster)}


def test_router_keeps_its_certificate_when_the_new_one_is_broken(cluster: EmbeddedCluster) -> None:
    file = cluster.folder / "tls" / "server.pem"
    good, before = file.read_bytes(), served(cluster)
    try:
        file.write_bytes(good.replace(b"-----BEGIN CERTIFICATE", b"-----BEGIN NONSENSE"))
        with cluster.client() as client, pytest.raises(OperationFailure) as refused:
            client.admin.command("rotateCertificates", 1)
        assert refused.value.code == 140
    finally:
        file.write_bytes(good)
    assert served(cluster) == before


def test_running_cluster_is_not_switched_half_way(site: Site, cluster: EmbeddedCluster) -> None:
    site.write(tls={"mode": "disabled"})
    try:
        played = site.play("playbooks/provision.yml")
        assert played.code != 0
        assert "all servers must change together" in played.output
        assert cluster.state.description().tls.required, "the description tells what runs"
    finally:
        site.write(tls={"mode": "requireTLS"})
    assert served(cluster) == {on_disk(cluster)}


def elections(cluster: EmbeddedCluster) -> dict[str, int]:
    """The term of every set: each election counts it up."""
    terms = {}
    for replica_set in cluster.description.replica_sets:
        with connect(replica_set.members[0].address, cluster.members_credentials) as client:
            terms[replica_set.name] = client.admin.command("replSetGetStatus")["term"]
    return terms
