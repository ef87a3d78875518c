"""Keys and where they lie on the ring: a pure function of the key, the same on every machine and in every process.

Two keys have one place exactly if MongoDB takes them for one `_id`: numbers are equal by value whatever their type (1,
1.0, Int64(1) and Decimal128("1") are one key), True is not 1, "1" is not 1.  Text is compared as it is: no Unicode
normalization, so "é" in one code point and in two are two keys, as they are for MongoDB without a collation.

The hash is the first 8 bytes of BLAKE2b (RFC 7693, digest size 8) of the canonical form below, read as a big-endian
number, minus 2^63: MongoDB's int64 keeps its order.  Never Python's own `hash`, which differs from process to process.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from bson import Binary, Code, Decimal128, Int64, ObjectId

from ..errors import KeyTypeError

HALF = 1 << 63
Scalar: TypeAlias = str | int | float | bool | Int64 | Decimal128 | ObjectId | bytes | Binary | UUID | datetime


class Grouped(NamedTuple):
    """A key that lies where its group lies, so that a whole group is read from the same nodes: a line of a cart."""

    group: str
    name: str


Key: TypeAlias = Scalar | Grouped


def canonical(key: Key) -> bytes:
    """Bytes that are equal exactly if MongoDB takes the keys for equal; KeyTypeError for a type that has no place."""
    if type(key) is str:  # most keys are text, and a key is asked for its form some ten times a write
        return b"s" + _text(key)
    if isinstance(key, Grouped):
        group = _text(key.group)
        if b"\0" in group:  # else the first zero byte would end the group
            return b"G" + str(len(group)).encode() + b":" + group + _text(key.name)
        return b"g" + group + b"\0" + _text(key.name)
    if isinstance(key, bool):
        return b"b1" if key else b"b0"
    if isinstance(key, str):
        return b"s" + _text(key)
    if isinstance(key, int | float | Decimal128):
        return b"n" + _number(key)
    if isinstance(key, ObjectId):
        return b"o" + key.binary
    if isinstance(key, UUID):
        return b"x\x04" + key.bytes
    if isinstance(key, bytes):  # Binary is bytes with a subtype
        return b"x" + bytes([getattr(key, "subtype", 0)]) + bytes(key)
    if isinstance(key, datetime):
        moment = key if key.tzinfo else key.replace(tzinfo=UTC)  # PyMongo stores a time without zone as UTC
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return b"d" + str((since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000).encode()
    raise KeyTypeError(
        f"a key of type {type(key).__name__} has no place on the ring: use text, a number, a boolean, an ObjectId, "
        "bytes, a UUID, a time, or Grouped"
    )


def hash_of(key: Key) -> int:
    """Where a key lies: a number from -2^63 to 2^63 - 1."""
    if isinstance(key, Decimal128) and not key.to_decimal().is_nan() and math.isinf(number := float(key.to_decimal())):
        return hash_bytes(b"ninf" if number > 0 else b"n-inf")  # placement 1 has all beyond a double in one place
    return hash_bytes(b"s" + _text(key.group) if isinstance(key, Grouped) else canonical(key))


def hash_bytes(text: bytes) -> int:
    """The ring's hash of bytes."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") - HALF


def to_id(key: Key) -> Any:
    """The `_id` a key has on its nodes."""
    canonical(key)  # refuses what has no place; not `Code`, which nodes may hold from earlier (`refuse_code`)
    return {"g": key.group, "i": key.name} if isinstance(key, Grouped) else key


def from_id(value: Any) -> Key:
    """The key of an `_id`."""
    return Grouped(value["g"], value["i"]) if isinstance(value, dict) else value


def refuse_code(key: Key) -> None:
    """KeyTypeError for `Code`, which MongoDB holds apart from its text and a ring does not.

    Whoever gives a key a value asks.  What an earlier version kept under one is still read, moved and deleted.
    """
    if any(isinstance(text, Code) for text in (key if isinstance(key, Grouped) else [key])):
        raise KeyTypeError("a key of type Code has no place on the ring: MongoDB holds it apart from its text")


def _text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise KeyTypeError("a key with half of a surrogate pair is no Unicode text, MongoDB cannot hold it") from None


def _number(value: int | float | Decimal128) -> bytes:
    exact: int | float | Decimal = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(exact, int):
        if not -HALF <= exact < HALF:
            raise KeyTypeError(f"{exact} does not fit 64 bits, MongoDB cannot hold it")
        return str(exact).encode()
    # A decimal is asked itself: as a double Decimal128("1E400") would be infinite.
    if exact.is_nan() if isinstance(exact, Decimal) else math.isnan(exact):
        return b"nan"
    if exact.is_infinite() if isinstance(exact, Decimal) else math.isinf(exact):
        return b"inf" if exact > 0 else b"-inf"
    fraction = Fraction(exact)  # exact: MongoDB compares Decimal128("0.1") and the double 0.1 by value, unequal
    if fraction.denominator == 1 and -HALF <= fraction.numerator < HALF:
        return str(fraction.numerator).encode()
    return f"{fraction.numerator:x}/{fraction.denominator:x}".encode()
