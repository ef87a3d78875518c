"""Shard keys: the hash of a value, the order of values, and the key of a document or a query.

Pure functions over BSON bytes, called for every document that is written.  They must agree with the servers on
every value, or a document lands where no query looks for it: the property tests compare both with real members.
Sources: MongoDB 6.0 manual, "Hashed Indexes" and "Comparison/Sort Order"; checked against mongod 6.0.5.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Any

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError

# Order of types; numbers share one place, and so do strings and symbols.
CANONICAL = {
    0xFF: -1, 0x06: 0, 0x0A: 5, 0x01: 10, 0x10: 10, 0x12: 10, 0x13: 10, 0x02: 15, 0x0E: 15, 0x03: 20, 0x04: 25,
    0x05: 30, 0x07: 35, 0x08: 40, 0x09: 45, 0x11: 47, 0x0B: 50, 0x0C: 55, 0x0D: 60, 0x0F: 65, 0x7F: 127,
}  # fmt: skip
MIN_KEY: tuple[Any, ...] = (-1,)
_AFTER_MAX_KEY: tuple[Any, ...] = (128,)
_NULL: tuple[Any, ...] = (5,)
_INT64_MAX, _INT64_MIN = 2**63 - 1, -(2**63)
_HASH = struct.Struct("<q").unpack_from

Key = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A BSON value where it lies: element `kind`, and `data[start:end]`."""

    data: bytes
    kind: int
    start: int
    end: int


def hash_value(value: Value | None) -> int:
    """The signed 64-bit number a hashed index stores for `value`; a missing field hashes like null."""
    if value is None:
        digest = hashlib.md5(struct.pack("<ii", 0, 5), usedforsecurity=False)
    elif value.kind in (0x10, 0x12):  # the usual case, in one step
        number = int.from_bytes(value.data[value.start : value.end], "little", signed=True)
        digest = hashlib.md5(struct.pack("<iiq", 0, 10, number), usedforsecurity=False)
    else:
        digest = hashlib.md5(b"\x00\x00\x00\x00", usedforsecurity=False)
        _hash_into(digest, value.data, value.kind, value.start, value.end, b"")
    result: int = _HASH(digest.digest())[0]
    return result


def _hash_into(digest: Any, data: bytes, kind: int, start: int, end: int, name: bytes) -> None:
    digest.update(struct.pack("<i", CANONICAL[kind]) + name)
    if kind in (0x01, 0x10, 0x12, 0x13):
        digest.update(struct.pack("<q", _integer_for_hash(data, kind, start)))
    elif kind in (0x03, 0x04, 0x0F):
        if kind == 0x0F:  # code with scope: length, string, document
            (size,) = struct.unpack_from("<i", data, start + 4)
            digest.update(data[start + 8 : start + 8 + size])
            start += 8 + size
        for field, inner, value, after in rawbson.walk(data, start):
            _hash_into(digest, data, inner, value, after, field + b"\x00")
        digest.update(b"\x00\x00\x00\x00")  # the end of a document counts as a value of type 0
    else:
        digest.update(data[start:end])


def _integer_for_hash(data: bytes, kind: int, start: int) -> int:
    number = rawbson.value_of(data, (kind, start, start + rawbson.FIXED[kind]))
    if kind == 0x13:
        number = number.to_decimal()
    if isinstance(number, int):
        return int(number)
    if number.is_nan() if kind == 0x13 else math.isnan(number):
        return 0
    if kind == 0x01 and number == 2.0**63:
        return _INT64_MIN  # as mongod has it, for compatibility with its early versions
    number = max(_INT64_MIN, min(_INT64_MAX, number))
    return int(number) if kind == 0x01 else round(number)


def comparable(data: bytes, kind: int, start: int, end: int) -> tuple[Any, ...]:
    """A tuple that sorts as MongoDB sorts the value (simple collation)."""
    order = CANONICAL[kind]
    if order in (-1, 0, 5, 127):
        return (order,)
    if order == 10:
        number = rawbson.value_of(data, (kind, start, end))
        if kind == 0x13:
            number = number.to_decimal()
            if number.is_nan():
                return (10, 0, 0)
        elif number != number:  # NaN is less than every number
            return (10, 0, 0)
        return (10, 1, number)
    if order == 15 or order == 60:
        return (order, data[start + 4 : end - 1])
    if order in (20, 25):
        inner = []
        for name, inner_kind, value, after in rawbson.walk(data, start):
            first, *rest = comparable(data, inner_kind, value, after)
            inner.append((first, name, *rest))
        return (order, tuple(inner))
    if order == 30:
        return (order, end - start - 5, data[start + 4], data[start + 5 : end])
    if order == 45:
        return (order, struct.unpack_from("<q", data, start)[0])
    if order == 47:
        return (order, struct.unpack_from("<Q", data, start)[0])
    if order == 50:
        return (order, *data[start : end - 1].split(b"\x00"))
    if order == 65:  # code with scope: length, string, document
        (size,) = struct.unpack_from("<i", data, start + 4)
        scope = start + 8 + size
        return (order, data[start + 8 : scope - 1], comparable(data, 0x03, scope, end))
    return (order, data[start:end])


class KeyPattern:
    """A shard key such as {region: 1, user_id: "hashed"}."""

    def __init__(self, pattern: dict[str, Any]) -> None:
        self.pattern = pattern
        self.fields = tuple((tuple(name.encode().split(b".")), order == "hashed") for name, order in pattern.items())
        self._flat = frozenset(path[0] for path, _ in self.fields) if all(len(p) == 1 for p, _ in self.fields) else None

    def key_of_bound(self, bound: dict[str, Any]) -> Key:
        """The key of a chunk's bound, whose hashed fields hold hashes already."""
        components = []
        for value in bound.values():  # one by one: PyMongo would put a field `_id` first
            data = rawbson.encode({"v": value})
            components += [comparable(data, kind, start, end) for _, kind, start, end in rawbson.walk(data)]
        return tuple(components)

    def key_of_document(self, document: bytes) -> Key:
        """The key of a whole document; raises RouterError 61 when the key holds an array."""
        if self._flat is not None:
            found = rawbson.find(document, self._flat)
            values = [(found.get(path[0]), hashed) for path, hashed in self.fields]
        else:
            values = [(rawbson.find_path(document, path), hashed) for path, hashed in self.fields]
        return tuple(
            self._component(Value(document, *element) if element else None, hashed) for element, hashed in values
        )

    def _component(self, value: Value | None, hashed: bool) -> tuple[Any, ...]:
        if value is not None and value.kind == 0x04:
            raise RouterError(Code.ShardKeyNotFound, "Shard key cannot contain array values or array descendants.")
        if hashed:
            return (10, 1, hash_value(value))
        return comparable(value.data, value.kind, value.start, value.end) if value else _NULL

    def prefix_of_query(self, query: bytes, *, simple_collation: bool = True) -> Key:
        """The leading components of the key that `query` fixes by equality: all of them, some, or none."""
        wanted = frozenset(b".".join(path) for path, _ in self.fields)
        found: dict[bytes, Value] = {}
        _equalities(query, 0, wanted, found)
        prefix = []
        for path, hashed in self.fields:
            value = found.get(b".".join(path))
            if value is None or value.kind == 0x04 or (not simple_collation and CANONICAL[value.kind] in (15, 20)):
                break
            prefix.append(self._component(value, hashed))
        return tuple(prefix)


def _equalities(query: bytes, start: int, wanted: frozenset[bytes], found: dict[bytes, Value]) -> None:
    for name, kind, value, after in rawbson.walk(query, start):
        if name == b"$and" and kind == 0x04:
            for _, inner_kind, inner, _ in rawbson.walk(query, value):
                if inner_kind == 0x03:
                    _equalities(query, inner, wanted, found)
        elif name in wanted and name not in found:
            exact = _exact(query, kind, value, after)
            if exact:
                found[name] = exact


def _exact(query: bytes, kind: int, value: int, after: int) -> Value | None:
    if kind in (0x0B, 0x06):
        return None
    if kind != 0x03:
        return Value(query, kind, value, after)
    for operator, inner_kind, inner, inner_after in rawbson.walk(query, value):
        if not operator.startswith(b"$"):
            return Value(query, kind, value, after)
        if operator == b"$eq" and inner_kind != 0x0B:
            return Value(query, inner_kind, inner, inner_after)
        if operator == b"$in" and inner_kind == 0x04:
            items = list(rawbson.walk(query, inner))
            if len(items) == 1 and items[0][1] != 0x0B:
                return Value(query, *items[0][1:])
    return None if after - value > 5 else Value(query, kind, value, after)


def range_of_prefix(prefix: Key, fields: int) -> tuple[Key, Key]:
    """The least key that starts with `prefix`, and one that is greater than all that do."""
    return (*prefix, *([MIN_KEY] * (fields - len(prefix)))), (*prefix, _AFTER_MAX_KEY)
