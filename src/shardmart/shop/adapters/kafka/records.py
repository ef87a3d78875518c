"""Events as Kafka's records, lanes as its partitions, and positions.  Nothing here talks to a broker.

A lane is a partition: the order that counts is that of a key, every event of a key is in one lane, and the one
partitioner that there is stands here.  A position says which topic it is of, because one that was made anew has the
same offsets for other events.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from ...domain.events import Event
from ...domain.identifiers import lane_of
from ...ports import Place

FIELDS = ("type", "key", "region", "producer", "number", "data", "customer", "trace", "schema")


class Partitions:
    """Which partition is which lane."""

    def __init__(self, regions: Sequence[str], lanes: int) -> None:
        """Regions in the data model's order; `lanes` of each."""
        self._lanes = lanes
        self.places: tuple[Place, ...] = tuple((region, number) for region in regions for number in range(lanes))
        self._numbers = {place: number for number, place in enumerate(self.places)}

    def __len__(self) -> int:
        return len(self.places)

    def number(self, place: Place) -> int:
        """The partition of a lane; KeyError for a region that is not the data model's."""
        return self._numbers[place]

    def of(self, event: Event) -> int:
        """The partition of an event."""
        return self.number((event.region, lane_of(event.key, self._lanes)))


def record_of(event: Event) -> bytes:
    """An event as the value of a record: JSON, so that others read it too."""
    document = {name: getattr(event, name) for name in FIELDS}
    document["at"] = event.at.isoformat(timespec="milliseconds") if event.at else None
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def event_of(value: bytes | None) -> Event:
    """The event in a record; ValueError for what is none."""
    try:
        document = json.loads(value or b"")
        at = document["at"]
        return Event(
            **{name: document[name] for name in FIELDS}, at=datetime.fromisoformat(at) if at is not None else None
        )
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"no event: {type(error).__name__}") from None


def position_of(next_offset: int, topic: str) -> str:
    """The position before that offset of the topic with the id `topic`.  Positions of a topic compare as text."""
    return f"{next_offset:016d}:{topic}"


def parse(position: str) -> tuple[int, str] | None:
    """Offset and topic id; None for a position in another log."""
    offset, colon, topic = position.partition(":")
    return (int(offset), topic) if colon and offset.isdecimal() else None
