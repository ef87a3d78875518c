"""What the injector decides about a packet, without any kernel."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import cast

import pytest

from shardmart.chaos.packets.flows import OUTSIDE, Endpoint, Header, Owners, parse
from shardmart.chaos.packets.injector import Injector, NetworkFault
from shardmart.chaos.packets.queue import Packet, PacketQueue

ENDPOINTS = (Endpoint("a", 1001), Endpoint("b", 1002), Endpoint("c", 1003))


def packet(source: int, destination: int, flags: int = 0x10, version: int = 4, protocol: int = 6) -> bytes:
    ip = struct.pack(">BBHHHBBH4s4s", version << 4 | 5, 0, 40, 0, 0, 64, protocol, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
    return ip + struct.pack(">HHIIBBHHH", source, destination, 0, 0, 5 << 4, flags, 0, 0, 0)


def header(source: int, destination: int) -> Header:
    return Header("127.0.0.1", "127.0.0.1", source, destination, opens=False)


def injector(direction: str = "egress", peers: tuple[str, ...] = ("b",), **options: float) -> Injector:
    made = Injector(
        NetworkFault(10, targets=("a",), peers=peers, endpoints=ENDPOINTS, direction=direction, seed=1, **options)  # type: ignore[arg-type]
    )
    # Who has which ephemeral port is the kernel's to say; here it is said by hand.
    made._owners._ephemeral = {50001: "a", 50002: "b", 50003: "c"}
    return made


def test_header_is_read() -> None:
    assert parse(packet(1001, 50002)) == Header("127.0.0.1", "127.0.0.1", 1001, 50002, opens=False)
    assert parse(packet(50002, 1001, flags=0x02)).opens  # type: ignore[union-attr]
    assert not parse(packet(1001, 50002, flags=0x12)).opens  # type: ignore[union-attr]


def packet6(source: int, destination: int, next_header: int = 6) -> bytes:
    ends = b"\xfd" + bytes(14) + b"\x0a", b"\xfd" + bytes(14) + b"\x0b"
    tcp = struct.pack(">HHIIBBHHH", source, destination, 0, 0, 5 << 4, 0x02, 0, 0, 0)
    return struct.pack(">IHBB16s16s", 6 << 28, 20, next_header, 64, *ends) + tcp


def test_header_of_ipv6_is_read() -> None:
    assert parse(packet6(1001, 50002)) == Header("fd00::a", "fd00::b", 1001, 50002, opens=True)


OTHERS = [
    packet(1, 2, version=6),
    packet(1, 2, protocol=17),
    b"",
    packet(1, 2)[:30],
    packet6(1, 2)[:58],
    packet6(1, 2, 44),
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_tcp_is_left_alone(other: bytes) -> None:
    assert parse(other) is None


@pytest.mark.parametrize(
    ("direction", "source", "destination", "ours", "impaired"),
    [
        ("egress", 1001, 50002, True, True),  # a answers b
        ("egress", 50002, 1001, True, False),  # b asks a
        ("egress", 50001, 1002, True, True),  # a asks b
        ("egress", 1002, 50001, True, False),  # b answers a
        ("ingress", 1001, 50002, True, False),
        ("ingress", 50002, 1001, True, True),
        ("both", 1001, 50002, True, True),
        ("both", 50002, 1001, True, True),
        ("both", 1001, 50003, False, False),  # a answers c
        ("both", 50003, 1002, False, False),  # c asks b
        ("both", 1001, 40000, False, False),  # a answers somebody outside
    ],
)
def test_only_packets_between_target_and_peer_are_impaired(
    direction: str, source: int, destination: int, ours: bool, impaired: bool
) -> None:
    assert injector(direction).concerns(header(source, destination)) == (ours, impaired)


def test_everybody_includes_outside() -> None:
    everybody = injector("both", peers=("a", "b", "c", OUTSIDE))
    assert everybody.concerns(header(1001, 40000)) == (True, True)
    assert everybody.concerns(header(1002, 40000)) == (False, False)


def test_delay_begins_when_a_packet_was_received_however_late_its_reader() -> None:
    """A reader that is held up between two packets must not count the second one's delay from before it came."""
    made, received = injector(delay_ms=100.0), []

    class Queue:
        def receive(self) -> Iterator[Packet]:
            for number in (1, 2):
                time.sleep(0.02)
                received.append(time.monotonic())
                yield Packet(number, packet(1001, 50002))

    made._take(cast("PacketQueue", Queue()))
    assert [number for _, number in sorted(made._held)] == [1, 2]
    assert all(due >= came + 0.1 for (due, _), came in zip(sorted(made._held), received, strict=True))


def test_delay_is_added_to_now() -> None:
    assert injector(delay_ms=100.0).due(header(1001, 50002), 5.0) == pytest.approx(5.1)


def test_jitter_stays_in_its_range_and_in_order() -> None:
    made = injector(delay_ms=100.0, jitter_ms=40.0)
    due = [made.due(header(1001, 50002), 5.0 + n / 1000) for n in range(500)]
    assert due == sorted(due)
    spread = [made.due(Header("x", "y", n, 1, opens=False), 0.0) for n in range(2000)]
    assert 0.060 <= min(spread) < 0.065
    assert 0.135 < max(spread) <= 0.140


def test_fault_survives_the_trip_as_json() -> None:
    fault = NetworkFault(3, delay_ms=5, targets=("a",), peers=("b", OUTSIDE), endpoints=ENDPOINTS)
    assert NetworkFault.from_json(fault.to_json()) == fault


def test_a_port_is_the_first_ones_where_another_process_stands_before_it() -> None:
    owners = Owners([Endpoint("cache-1", 6379), Endpoint("tls-cache-1", 6379)], {"cache-1"})
    assert owners.name(6379) == "cache-1"
