"""A network fault where a pod has it: in a network namespace of its own, on every packet of both address families.

Needs root, iproute2 and iptables; skipped elsewhere with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from shardmart.chaos.packets.injector import NetworkFault

pytestmark = pytest.mark.long

DELAY_MS, LONG_S, PORT = 200, 120, 7000
OURS, ITS = ("198.18.70.1", "fd00:5a::1"), ("198.18.70.2", "fd00:5a::2")
"""Addresses of the two ends: of the range for tests of networks (RFC 2544), and unique local ones."""

ECHO = f"""
import socket
server = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=30)


@dataclass
class Pod:
    """A network namespace with an interface `eth0`, and a server in it."""

    name: str

    def inside(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def faulty(self, **fault: object) -> subprocess.Popen[str]:
        """The process that holds a fault, which is real."""
        process = self.inside(sys.executable, "-m", "shardmart.chaos.packets", "-")
        assert process.stdin
        assert process.stdout
        process.stdin.write(NetworkFault(LONG_S, **fault).to_json())  # type: ignore[arg-type]
        process.stdin.close()
        assert json.loads(process.stdout.readline())["event"] == "started"
        return process

    def rules(self) -> list[str]:
        """What is in the tables of both families that a fault of ours would put there."""
        listed = [
            subprocess.run(
                ["ip", "netns", "exec", self.name, program, "-t", "mangle", "-S"],
                capture_output=True, text=True, check=True, timeout=30,
            ).stdout.splitlines()
            for program in ("iptables", "ip6tables")
        ]  # fmt: skip
        return [line for lines in listed for line in lines if "SHARDMART" in line]


@pytest.fixture
def pod() -> Iterator[Pod]:
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    if missing := [program for program in ("ip", "iptables", "ip6tables") if shutil.which(program) is None]:
        pytest.skip(f"there is no {', '.join(missing)} here")
    made, link = Pod(f"shardmart-{os.getpid()}"), f"sm{os.getpid()}"
    ip("netns", "add", made.name)
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        for address, bits in zip(OURS, ("24", "64"), strict=True):
            ip("address", "add", f"{address}/{bits}", "dev", link, *(["nodad"] if ":" in address else []))
        ip("link", "set", link, "up")
        for address, bits in zip(ITS, ("24", "64"), strict=True):
            nodad = ["nodad"] if ":" in address else []
            ip("-netns", made.name, "address", "add", f"{address}/{bits}", "dev", "eth0", *nodad)
        ip("-netns", made.name, "link", "set", "eth0", "up")
        server = made.inside(sys.executable, "-c", ECHO)
        try:
            assert server.stdout
            assert server.stdout.readline() == "listening\n"
            yield made
        finally:
            server.kill()
            server.wait(30)
    finally:
        ip("link", "delete", link, check=False)
        ip("netns", "delete", made.name, check=False)


def quickest_ms(address: str) -> float:
    """The quickest of some handshakes: a busy machine makes one slower, nothing makes it quicker."""

    def handshake() -> float:
        began = time.perf_counter()
        with closing(socket.create_connection((address, PORT), timeout=10)):
            return (time.perf_counter() - began) * 1000

    return min(handshake() for _ in range(3))


def test_every_packet_of_both_families_is_delayed_until_the_fault_ends(pod: Pod) -> None:
    assert max(quickest_ms(address) for address in ITS) < DELAY_MS
    fault = pod.faulty(delay_ms=DELAY_MS)
    assert min(quickest_ms(address) for address in ITS) >= DELAY_MS
    assert {line.split()[0] for line in pod.rules()} == {"-A", "-N"}
    fault.terminate()
    assert fault.stdout
    ended = json.loads(fault.stdout.readlines()[-1])
    fault.wait(30)
    assert (ended["event"], ended["delayed"] >= 6) == ("ended", True)
    assert pod.rules() == []
    assert max(quickest_ms(address) for address in ITS) < DELAY_MS


def test_a_peer_is_cut_off_by_its_ipv6_address_alone(pod: Pod) -> None:
    fault = pod.faulty(loss=1.0, direction="both", peer_addresses=(OURS[1],))
    with pytest.raises(TimeoutError), closing(socket.create_connection((ITS[1], PORT), timeout=2)):
        pass
    assert quickest_ms(ITS[0]) < DELAY_MS
    fault.kill()  # and the kernel lets packets pass: nobody serves the queue
    fault.wait(30)
    assert quickest_ms(ITS[1]) > 0
