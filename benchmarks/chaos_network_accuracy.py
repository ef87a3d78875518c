"""How exact network faults are: measured against asked delay, jitter's distribution, and loss, as Markdown.

    sudo python benchmarks/chaos_network_accuracy.py
    python benchmarks/chaos_network_accuracy.py --kind STATE      # of a router's pod, measured in the toolbox

Starts one echo server and the injector (`chaos.packets`) in a network namespace of its own, so that nothing else on the
machine is touched; needs root, iptables and unshare.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import command_line

from shardmart.chaos.packets.flows import OUTSIDE, Endpoint
from shardmart.chaos.packets.injector import NetworkFault

PORT = 31950
SAMPLES = {10: 60, 100: 30, 500: 12}
HEAD = "| what | asked (ms) | samples | min | median | p95 | max | median - asked |\n|---|--:|--:|--:|--:|--:|--:|--:|"


def serve() -> None:
    """Echo what comes, for ever."""
    server = socket.create_server(("127.0.0.1", PORT), backlog=128)

    def echo(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(4096):
            connection.sendall(data)

    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()


@contextmanager
def fault(**options: Any) -> Any:
    """A fault on the echo server's port, for the length of the block."""
    asked = NetworkFault(
        duration_s=300, targets=("echo",), peers=("echo", OUTSIDE), endpoints=(Endpoint("echo", PORT),), **options
    )
    injector = subprocess.Popen(
        [sys.executable, "-m", "shardmart.chaos.packets", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert injector.stdin
    assert injector.stdout
    injector.stdin.write(asked.to_json())
    injector.stdin.close()
    started = injector.stdout.readline()
    assert "started" in started, started
    try:
        yield injector
    finally:
        injector.terminate()
        injector.wait(30)


def connect_ms() -> float:
    """One TCP handshake."""
    started = time.perf_counter()
    socket.create_connection(("127.0.0.1", PORT), timeout=30).close()
    return (time.perf_counter() - started) * 1000


def echo_ms(connection: socket.socket) -> float:
    """One message there and back on an open connection."""
    started = time.perf_counter()
    connection.sendall(b"x")
    connection.recv(1)
    return (time.perf_counter() - started) * 1000


def row(name: str, asked: float, measured: list[float], base: float) -> str:
    """A line of the table."""
    ordered = sorted(measured)
    median, p95 = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    return (
        f"| {name} | {asked:g} | {len(ordered)} | {ordered[0]:.2f} | {median:.2f} | {p95:.2f} | {ordered[-1]:.2f} "
        f"| {median - base - asked:+.2f} |"
    )


def on_kind(state: Path) -> None:
    """The delay of a router's pod, by handshakes from the toolbox."""
    os.environ["SHARDMART_STATE"] = str(state)
    from shardmart.chaos.targets.selectors import Targets
    from shardmart.chaos.toolkit import actions
    from shardmart.cluster.description import Role
    from shardmart.platforms.state import State

    targets = Targets(State.find())
    router = next(server for server in targets.servers if server.role is Role.ROUTER)

    def measure(samples: int) -> list[float]:
        return [ms for _ in range(samples) if (ms := targets.connect_ms(router, 30)) is not None]

    idle = measure(60)
    base = statistics.median(idle)
    print(HEAD)
    print(row("no fault, connect to a pod", 0, idle, base), flush=True)
    for delay, samples in SAMPLES.items():
        via = actions.latency(router.name, delay_ms=delay, duration_s=60)["parameters"]["via"]
        print(row("connect to a pod", delay, measure(samples), base), flush=True)
        actions.heal()
    print(row("after the fault", 0, measure(60), base), flush=True)
    print(f"\nHeld by {via}.")


def main() -> None:
    """Print the tables."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--kind", type=Path, metavar="STATE", help="measure pods of the kind cluster in this state folder"
    )
    kind = parser.parse_args().kind
    if kind:
        print(f"Load of the machine while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.\n")
        on_kind(kind)
        return
    if os.environ.get("SHARDMART_BENCHMARK_NAMESPACE") != "1":
        if os.geteuid() != 0 or not shutil.which("unshare"):
            raise SystemExit(
                "chaos_network_accuracy: needs root and unshare (it works in a network namespace of its own)"
            )
        command = f"ip link set lo up && exec {sys.executable} {os.path.abspath(__file__)}"  # noqa: PTH100
        os.environ["SHARDMART_BENCHMARK_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", command])
    threading.Thread(target=serve, daemon=True).start()
    while True:
        try:
            connect_ms()
            break
        except OSError:
            time.sleep(0.05)
    idle = [connect_ms() for _ in range(100)]
    base = statistics.median(idle)
    print(f"Load of the machine while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.\n")
    print(HEAD)
    print(row("no fault, connect", 0, idle, base), flush=True)
    for delay, samples in SAMPLES.items():
        with fault(delay_ms=float(delay)):
            print(row("connect", delay, [connect_ms() for _ in range(samples)], base), flush=True)
            with socket.create_connection(("127.0.0.1", PORT)) as connection:
                print(row("message", delay, [echo_ms(connection) for _ in range(samples)], base), flush=True)
    print(row("after the fault, connect", 0, [connect_ms() for _ in range(100)], base), flush=True)
    with fault(delay_ms=50.0, jitter_ms=20.0, seed=1):
        measured = [connect_ms() for _ in range(200)]
    print("\nJitter: 50 ms ± 20 ms asked (uniform), 200 connects:\n\n```")
    for low in range(26, 78, 4):
        count = sum(low <= ms < low + 4 for ms in measured)
        print(f"{low:3}-{low + 4:<3} ms {'█' * count} {count}")
    outside = sum(not 30 <= ms < 74 for ms in measured)
    print(f"```\nmean {statistics.mean(measured):.1f} ms, {outside} of 200 outside 30-74 ms")


if __name__ == "__main__":
    main()
