"""Keys: placement agrees with MongoDB's equality, and is the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId

from shardmart.ring.errors import KeyTypeError
from shardmart.ring.node.record import draft
from shardmart.ring.placement.keys import Grouped, canonical, from_id, hash_of, to_id


@pytest.mark.parametrize("same", [1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.000")])
def test_numbers_are_one_key_by_value_whatever_their_type(same: object) -> None:
    assert canonical(same) == canonical(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["1", True, b"1", 1.5, -1, Grouped("1", "1")])
def test_what_mongodb_holds_apart_is_another_key(other: object) -> None:
    assert canonical(other) != canonical(1)  # type: ignore[arg-type]


def test_zero_and_minus_zero_are_one_key() -> None:
    assert canonical(-0.0) == canonical(0)


def test_a_double_and_a_decimal_of_the_same_digits_are_two_keys() -> None:
    assert canonical(0.1) != canonical(Decimal128("0.1"))
    assert canonical(0.5) == canonical(Decimal128("0.5"))


def test_decimals_beyond_a_double_are_keys_of_their_own() -> None:
    beyond = [Decimal128(text) for text in ("1E400", "1E500", "-1E400", "Infinity", "-Infinity", "NaN", "1E-6000", "0")]
    assert len({canonical(one) for one in beyond}) == len(beyond)
    assert canonical(Decimal128("Infinity")) == canonical(float("inf"))
    assert canonical(Decimal128("NaN")) == canonical(Decimal128("sNaN")) == canonical(float("nan"))


def test_where_a_group_ends_does_not_depend_on_zero_bytes_in_it() -> None:
    assert canonical(Grouped("a\0b", "c")) != canonical(Grouped("a", "b\0c"))
    assert canonical(Grouped("a", "b\0c")) != canonical(Grouped("a", "b"))
    assert canonical(Grouped("cart-7", "line-1")) == b"gcart-7\0line-1"  # fingerprints of what is kept are made of it


def test_text_is_not_normalized() -> None:
    assert canonical("\u00e9") != canonical("e\u0301")


def test_times_are_compared_to_the_millisecond_as_mongodb_keeps_them() -> None:
    moment = datetime(2026, 11, 28, 4, 0, 0, 123_000, tzinfo=UTC)
    assert canonical(moment) == canonical(moment.replace(microsecond=123_999))
    assert canonical(moment) == canonical(moment.astimezone(timezone(timedelta(hours=9))))
    assert canonical(moment) == canonical(moment.replace(tzinfo=None))


def test_a_uuid_is_its_binary_of_subtype_4() -> None:
    value = UUID(int=7)
    assert canonical(value) == canonical(Binary(value.bytes, 4))
    assert canonical(value) != canonical(value.bytes)


@pytest.mark.parametrize("wrong", [None, [1], {"a": 1}, (1, 2), "\ud800", 1 << 63, -(1 << 63) - 1])
def test_a_key_without_a_place_is_refused(wrong: object) -> None:
    with pytest.raises(KeyTypeError):
        hash_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [Code("x"), Grouped(Code("x"), "y"), Grouped("x", Code("y"))])
def test_code_is_given_no_value_and_what_is_kept_under_it_lies_where_it_lay(code: Any) -> None:
    with pytest.raises(KeyTypeError, match="Code"):
        draft(code, 1, deleted=False, kind="u")
    text = Grouped(str(code.group), str(code.name)) if isinstance(code, Grouped) else str(code)
    assert hash_of(code) == hash_of(text)
    assert from_id(to_id(code)) == code  # listings, hints and comparisons meet it
    assert draft(code, None, deleted=True, kind="u").deleted


def test_a_group_lies_together() -> None:
    assert hash_of(Grouped("cart-7", "a")) == hash_of(Grouped("cart-7", "b")) == hash_of("cart-7")


def test_a_grouped_key_survives_its_id() -> None:
    key = Grouped("cart-7", "line-1")
    assert from_id(to_id(key)) == key


def test_the_places_are_those_written_down_in_docs_ring() -> None:
    """Data lies by these numbers: whoever changes one needs another PLACEMENT."""
    assert hash_of("cart-1") == 3921044923097409205
    assert hash_of(1) == 4713389289416364797
    for beyond in ("1E400", "1E500", "Infinity"):
        assert hash_of(Decimal128(beyond)) == hash_of(float("inf")) == -226961755031021426
    assert hash_of(Decimal128("-1E400")) == hash_of(float("-inf")) != hash_of(float("inf"))
    assert hash_of(ObjectId("0123456789abcdef01234567")) == 3543286035152675755


def test_the_place_does_not_depend_on_the_process() -> None:
    script = "from shardmart.ring.placement.keys import hash_of; print(hash_of('cart-1'))"
    places = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(places) == 1
