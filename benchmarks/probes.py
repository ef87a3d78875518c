"""What one probe of a member costs: `python benchmarks/probes.py` prints a Markdown table.

Two real members of this machine, one plain and one with TLS, are asked by the chart's own probe.sh and by its
alternatives, all in one run and by turns.  CPU is that of the probe and its children (rusage) and of the member
(its own accounting), so other work on the machine changes the time a probe takes, and little else.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import command_line

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.clusters import ROOT, EmbeddedCluster, small_topology

PROBE = str(ROOT / "helm" / "sharded-mongodb" / "files" / "probe.sh")
PROBES_PER_SECOND_OF_A_MEMBER = 1 / 5 + 1 / 20
"""Readiness every 5 s, liveness every 20 s (values.yaml)."""
MEMBERS = 10


@dataclass
class Variant:
    """One way to ask; what it cost so far, milliseconds of CPU and of time."""

    name: str
    cluster: EmbeddedCluster
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)


def measure(variant: Variant, rounds: int) -> None:
    """Ask `rounds` times in a row."""
    member = variant.cluster.processes["shard1-1"].running()
    assert member
    environment = {"PATH": os.environ["PATH"]} | variant.environment
    children, server, started = _children(), sum(member.cpu_times()[:2]), time.perf_counter()
    for _ in range(rounds):
        done = subprocess.run(variant.command, env=environment, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(f"{variant.name}: exit code {done.returncode}")
    variant.elapsed.append((time.perf_counter() - started) * 1000 / rounds)
    variant.client.append((_children() - children) * 1000 / rounds)
    variant.server.append((sum(member.cpu_times()[:2]) - server) * 1000 / rounds)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def variants(plain: EmbeddedCluster, tls: EmbeddedCluster, folder: Path) -> list[Variant]:
    """The ways to ask."""

    def port(cluster: EmbeddedCluster) -> str:
        return str(cluster.set_of("shard1ReplSet").members[0].port)

    authority = str(tls.folder / "tls" / "ca.pem")
    with_tls = {"PORT": port(tls), "TLS": "1", "TLS_CA": authority}
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{port(tls)}", "-CAfile", authority, "-verify_return_error"]
    handshake = [*client, "-quiet", "-no_ign_eof"]
    return [
        Variant("TCP connect only (bash)", tls, ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port(tls)}"]),
        Variant("probe.sh, plain", plain, [PROBE, "alive"], {"PORT": port(plain)}),
        Variant("TLS handshake only (openssl)", tls, ["bash", "-c", f"{' '.join(handshake)} >/dev/null 2>&1"]),
        Variant("probe.sh, TLS", tls, [PROBE, "alive"], with_tls),
        Variant("python3 ssl, TLS", tls, ["python3", "-c", PYTHON, port(tls), authority]),
    ]


PYTHON = """
import socket, ssl, struct, sys
body = bytes(5) + b"\\x1f\\0\\0\\0\\x10hello\\0\\1\\0\\0\\0\\2$db\\0\\6\\0\\0\\0admin\\0\\0"
with ssl.create_default_context(cafile=sys.argv[2]).wrap_socket(
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="localhost") as connection:
    connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)
    sys.exit(b"isWritablePrimary" not in connection.recv(65536))
"""


def main() -> None:
    """Measure by turns and print the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40, help="probes in a row, each turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clusters = []
        for name in ("plain", "tls"):
            cluster = EmbeddedCluster(Path(folder) / name, small_topology(shards=1, tls=name == "tls"))
            cluster.write_secrets()
            clusters.append(cluster)
        try:
            for cluster in clusters:
                cluster.start("shard1-1")
                cluster.form(cluster.set_of("shard1ReplSet"))
            found = variants(*clusters, Path(folder))
            for _ in range(arguments.turns):
                for variant in found:
                    measure(variant, arguments.rounds)
        finally:
            for cluster in clusters:
                cluster.destroy()
    asked = f"{arguments.turns} turns of {arguments.rounds}, medians"
    print(
        f"| one probe ({asked}) | CPU of the probe, ms | CPU of the member, ms | time, ms | {MEMBERS} members, cores |"
    )
    print("|---|--:|--:|--:|--:|")
    for variant in found:
        client, server = statistics.median(variant.client), statistics.median(variant.server)
        cores = MEMBERS * PROBES_PER_SECOND_OF_A_MEMBER * (client + server) / 1000
        elapsed = statistics.median(variant.elapsed)
        print(f"| {variant.name} | {client:.1f} | {server:.1f} | {elapsed:.0f} | {cores:.3f} |")


if __name__ == "__main__":
    main()
