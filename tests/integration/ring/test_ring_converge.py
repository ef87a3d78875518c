"""`shardmart ring converge`, `verify` and `take-certificates`, as the Jobs of helm/ring run them.

The servers have a keyfile and speak TLS only.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmart.cluster.converge.rotation import served
from shardmart.cluster.host import certificates
from shardmart.cluster.host.processes import Process, start, stop, wait_until_listening
from shardmart.cluster.protocol.connection import Deadline, Tls
from shardmart.platforms.standalone import LOOPBACK, Standalone, keyfile_in
from shardmart.ring import RingClient
from shardmart.ring import settings as settings_file
from tests.support.clusters import free_ports, servers

NAMES = ("store", "carts-1", "carts-2", "carts-3")


class Pods:
    """What helm/ring makes, as processes: servers with a keyfile, a certificate and no user, a settings file without a
    secret and the authority beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keyfile, self.settings = keyfile_in(folder), folder / "settings.json"
        self.keyfile.write_text(base64.b64encode(secrets.token_bytes(96)).decode())
        self.keyfile.chmod(0o400)
        (folder / "ring.password").write_text("a password / of @ the ring")
        (folder / "ring.password").chmod(0o440)
        self.tls = folder / "tls"
        self.tls.mkdir()
        self.authority = certificates.make_authority("test")
        for authority in (self.tls / "ca.pem", folder / "ca.crt"):
            authority.write_bytes(self.authority.certificate)
        self.renew()
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.write(*NAMES[1:])
        mongod = servers()["mongod"]
        assert mongod
        self.processes = [self.process(name, mongod) for name in NAMES]

    def process(self, name: str, mongod: str) -> Process:
        return Standalone(name, self.ports[name], tls=self.tls).process(self.folder, mongod)

    def renew(self) -> str:
        """Another certificate in the servers' file; its fingerprint."""
        made = certificates.make_server_certificate(self.authority, [LOOPBACK], 10)
        (self.tls / "server.pem").write_bytes(made.combined)
        return certificates.fingerprint(made.certificate)

    def served(self) -> set[str]:
        """Fingerprints of the certificates that the servers show."""
        return {served(f"{LOOPBACK}:{port}", Tls(str(self.tls / "ca.pem"))) for port in self.ports.values()}

    def write(self, *nodes: str) -> None:
        """The settings file for these nodes, as the chart writes it."""
        options = "authSource=admin&tls=true&tlsCAFile={folder}/ca.crt"
        uris = {name: f"mongodb://ring:{{password}}@{LOOPBACK}:{self.ports[name]}/?{options}" for name in NAMES}
        document = {"name": "carts", "nodes": {name: uris[name] for name in nodes}, "store": uris["store"]}
        self.settings.write_text(json.dumps(document | {"timeout_seconds": 10, "password_file": "ring.password"}))

    def ring(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`shardmart ring` to its end."""
        command = [sys.executable, "-m", "shardmart.ring_command", *arguments, f"--settings={self.settings}"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    def converge(self, *nodes: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        named = [f"--node={name}" for name in nodes]
        return self.ring("converge", *named, "--copies=2", "--virtual-nodes=64", f"--keyfile={self.keyfile}", *more)


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    made = Pods(tmp_path_factory.mktemp("pods"))
    try:
        wait_until_listening(start(made.processes), Deadline(120))
        yield made
    finally:
        stop(made.processes, wait_seconds=60)


def test_a_ring_is_made_from_nothing_loses_a_node_has_it_back_and_is_left_alone_otherwise(pods: Pods) -> None:
    first = pods.converge("carts-1", "carts-2=2", "carts-3")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [
        *(f"make the user of {name}" for name in ("the store", "carts-1", "carts-2", "carts-3")),
        "make the ring of carts-1, carts-2, carts-3",
    ]
    again = pods.converge("carts-1", "carts-2=2", "carts-3")
    assert (again.returncode, again.stdout) == (0, "ring carts is as declared\n")

    async def fill() -> None:
        async with RingClient(settings_file.read(pods.settings), upkeep=False) as ring:
            await ring.put_many((f"key-{n}", n) for n in range(200))

    async def look() -> tuple[dict[str, int], set[int]]:
        async with RingClient(settings_file.read(pods.settings), upkeep=False) as ring:
            return dict(ring.view.ring.weights), {one.value async for one in ring.iterate()}

    asyncio.run(fill())
    # The Job before an upgrade: the node leaves, and the one that is named besides does not join.
    left = pods.converge("carts-1", "carts-2", "carts-9", more=("--leave-only",))
    assert left.returncode == 0, left.stderr
    assert asyncio.run(look()) == ({"carts-1": 1, "carts-2": 2}, set(range(200)))
    few = pods.converge("carts-1", more=("--leave-only",))
    assert few.returncode != 0
    assert "Traceback" not in few.stderr
    pods.write("carts-1", "carts-2")
    assert pods.converge("carts-1", "carts-2=2").stdout == "ring carts is as declared\n"
    unknown = pods.converge("carts-1", "carts-2", "carts-3")
    assert (unknown.returncode, "the settings have no node 'carts-3'" in unknown.stderr) == (2, True)
    pods.write("carts-1", "carts-2", "carts-3")
    assert pods.converge("carts-1", "carts-2", "carts-3").returncode == 0
    assert asyncio.run(look()) == ({"carts-1": 1, "carts-2": 1, "carts-3": 1}, set(range(200)))

    verified = pods.ring("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert [line.split(":")[0] for line in verified.stdout.splitlines()] == ["carts-1", "carts-2", "carts-3"]
    assert verified.stdout.count("right") == 3


def test_a_renewed_certificate_is_taken_without_a_restart_by_who_holds_the_keyfile(pods: Pods) -> None:
    before = pods.served()
    renewed = pods.renew()
    assert pods.served() == before != {renewed}
    taken = pods.ring("take-certificates", f"--keyfile={pods.keyfile}")
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout == "certificates taken: the store, carts-1, carts-2, carts-3\n"
    assert pods.served() == {renewed}


def test_another_keyfile_is_refused_in_one_line(pods: Pods, tmp_path: Path) -> None:
    wrong = tmp_path / "keyfile"
    wrong.write_text("d3Jvbmc=")
    (pods.folder / "other.password").write_text("nobody's")
    (pods.folder / "other.password").chmod(0o440)
    document = json.loads(pods.settings.read_text())
    other = pods.folder / "other.json"
    other.write_text(json.dumps(document | {"password_file": "other.password"}))
    command = [sys.executable, "-m", "shardmart.ring_command", "converge", "--node=carts-1", f"--settings={other}"]
    done = subprocess.run([*command, f"--keyfile={wrong}"], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 3
    assert "Authentication failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "nobody" not in done.stderr
