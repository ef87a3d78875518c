"""Events as records, lanes as partitions, positions: what needs no broker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shardmart.shop.adapters.kafka.records import Partitions, event_of, parse, position_of, record_of
from shardmart.shop.domain.events import ORDER_PLACED, Event
from shardmart.shop.domain.identifiers import lane_of

REGIONS, LANES = ("APJ", "EMEA", "LATAM"), 2
AT = datetime(2026, 11, 28, 4, 0, 0, 123000, tzinfo=UTC)
EVENT = Event(ORDER_PLACED, "EMEA.u1.o1", "EMEA", "order", 1, {"lines": ["ß"]}, "EMEA.u1", "ab" * 16, AT)


@pytest.mark.parametrize("event", [EVENT, replace(EVENT, at=None, customer=None, schema=2, type="from-newer-code")])
def test_an_event_comes_back_from_its_record_whole(event: Event) -> None:
    assert event_of(record_of(event)) == event


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"\xff", b'"x"', b'{"type": 1, "at": null}'])
def test_what_is_no_event_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_of(value)


def test_each_lane_has_a_partition_of_its_own_and_an_event_is_in_that_of_its_lane() -> None:
    partitions = Partitions(REGIONS, LANES)
    assert [partitions.number(place) for place in partitions.places] == list(range(6))
    for n in range(50):
        event = replace(EVENT, key=f"EMEA.u{n}.o{n}")
        assert partitions.places[partitions.of(event)] == ("EMEA", lane_of(event.key, LANES))
    with pytest.raises(KeyError):
        partitions.of(replace(EVENT, region="MARS"))


def test_positions_compare_as_text_and_those_of_another_log_are_told() -> None:
    positions = [position_of(offset, "ab" * 16) for offset in (0, 9, 10, 99, 100, 10**12)]
    assert positions == sorted(positions)
    assert [parse(position) for position in positions[:2]] == [(0, "ab" * 16), (9, "ab" * 16)]
    assert parse("8263" + "0" * 40) is None
    assert parse("") is None
