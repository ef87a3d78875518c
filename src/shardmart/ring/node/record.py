"""What a node holds for a key: the value in an envelope with its version, and the updates by which versions decide.

Envelope: `_id` key, `h` place on the ring, `n` and `w` version, `f` fingerprint, `e` epoch of the ring in which it was
written, `x` value, `o` if offered; a tombstone has `t` (when it was made) and no `x`.  A copy is replaced by a newer
version only, in one atomic update of the server, so copies may arrive in any order, twice, or late, and end equal.

A version is a number and the name of the one write that made it.  The number is greater than that of every version the
writer's nodes held, and at least the writer's clock in milliseconds: the clock never decides between copies that know
of one another, it only keeps a key whose tombstone is gone above its own past.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import bson
from bson import Int64
from bson.errors import BSONError

from ..errors import ValueTooLargeError, ValueTypeError
from ..placement.keys import Key, canonical, from_id, hash_of, refuse_code, to_id

Document = dict[str, Any]

MAX_RECORD_BYTES = (16 << 20) - (64 << 10)
"""Document limit of MongoDB (manual, "MongoDB Limits": 16 MiB) less what a hint's envelope and the update around it
take: a value that fits here fits everywhere it may have to go."""
FINGERPRINT_BYTES = 5
"""Sums of 40-bit fingerprints stay exact in an int64 for 8 million records a comparison."""
BLIND, CONDITIONAL = "u", "c"
"""First letter of a write's name.  Of two concurrent writes with one number the unconditional one counts as later."""


class Version(NamedTuple):
    """The order of versions is that of the tuple."""

    number: int
    write: str

    def __str__(self) -> str:
        return f"{self.number}-{self.write}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version that prints as `text`; ValueError when none does."""
        number, _, write = text.partition("-")
        return cls(int(number), write)


def new_write(kind: str = BLIND) -> str:
    """A name that no other write has."""
    return kind + secrets.token_hex(7)


class _Clock:
    """Milliseconds since 1970, and never the same number twice in a process, also when its clock is set back."""

    def __init__(self) -> None:
        self._latest = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._latest = max(self._latest + 1, time.time_ns() // 1_000_000)
            return self._latest


clock = _Clock()
"""The least number of a new version.  What one process writes later has the greater number, so a request of its own
that is carried out late is older than what it sent after it."""


OFFERED: Document = {"o": True}


@dataclass(frozen=True)
class Record:
    """One version of one key; `deleted` is when a tombstone was made, None for a value.

    `offered` says that the node it was read from got it from its writer, and before that write was acknowledged: the
    copies that writers spread, hints, reads and comparisons bring are not, for they may come at any time.
    """

    key: Key
    version: Version
    value: Any = None
    deleted: datetime | None = None
    offered: bool = field(default=False, compare=False)
    size: int = field(default=0, compare=False)
    """Bytes that it takes on a node as a hint; 0 where nobody has counted (`measured`)."""

    @property
    def fingerprint(self) -> int:
        """A number for this version of this key; sums of them tell whether two nodes hold the same."""
        text = canonical(self.key) + b"\0" + self.version.write.encode() + (b"\0t" if self.deleted else b"\0v")
        return int.from_bytes(blake2b(text, digest_size=FINGERPRINT_BYTES).digest(), "big")

    def document(self, epoch: int) -> Document:
        """As it is kept, without `_id`: a server does not let the type of a key that it has change (1 and 1.0)."""
        kept: Document = {
            "h": Int64(hash_of(self.key)),
            "n": Int64(self.version.number),
            "w": self.version.write,
            "f": Int64(self.fingerprint),
            "e": epoch,
        }
        return kept | ({"t": self.deleted} if self.deleted else {"x": self.value})

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Record:
        """The record that a node holds."""
        return cls(
            from_id(document["_id"]),
            Version(int(document["n"]), document["w"]),
            document.get("x"),
            document.get("t"),
            bool(document.get("o")),
        )


def draft(key: Key, value: Any, *, deleted: bool, kind: str) -> Record:
    """A record without a number yet.

    KeyTypeError; ValueTypeError when BSON cannot hold the value; ValueTooLargeError when it would not fit a document,
    envelope included, nor a hint, which has the key twice.
    """
    if not deleted:
        refuse_code(key)
    record = Record(
        key,
        Version(0, new_write(kind)),
        None if deleted else value,
        datetime.now(UTC).replace(microsecond=0) if deleted else None,
    )
    try:
        record = measured(record)
    except (BSONError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise ValueTypeError(f"the value of {str(key)[:100]!r} cannot be kept: {str(error)[:300]}") from None
    if record.size > MAX_RECORD_BYTES:
        raise ValueTooLargeError(
            f"the value of {str(key)[:100]!r} takes {record.size:,} bytes with its key twice and its envelope, at most "
            f"{MAX_RECORD_BYTES:,} fit; nothing was written"
        )
    return record


def measured(record: Record) -> Record:
    """The same with its size: that of a hint, which has the key twice.  Raises as bson.encode does."""
    envelope = {"_id": to_id(record.key), "key": to_id(record.key), **record.document(0)}
    return replace(record, size=len(bson.encode(envelope, codec_options=CODEC)))


CODEC: Any = bson.CodecOptions(uuid_representation=bson.binary.UuidRepresentation.STANDARD, tz_aware=True)


def _older_than(version: Version) -> Document:
    """The expression "what is kept is missing or older than `version`"."""
    number = {"$ifNull": ["$n", Int64(-1)]}
    return {
        "$or": [
            {"$lt": [number, Int64(version.number)]},
            {"$and": [{"$eq": [number, Int64(version.number)]}, {"$lt": ["$w", version.write]}]},
        ]
    }


def newest_wins(version: Version, kept: Document) -> list[Document]:
    """An update that puts `kept` in place of an older version or of nothing, and leaves a newer or equal one."""
    placed = {"$mergeObjects": [{"_id": "$_id"}, {"$literal": kept}]}
    return [{"$replaceWith": {"$cond": [_older_than(version), placed, "$$ROOT"]}}]
