"""Identifiers say whose document it is, and are never those of a driver."""

from __future__ import annotations

import datetime

from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from shardmart.loader.generation import identity

SEEDS = st.integers(0, identity.MAXIMUM_SEED)
POSITIONS = st.integers(0, identity.MAXIMUM_USERS)
NUMBERS = st.integers(0, identity.MAXIMUM_ORDERS_PER_USER)


@given(SEEDS, POSITIONS, NUMBERS)
def test_an_identifier_tells_seed_and_position(seed: int, position: int, number: int) -> None:
    assert identity.parse(identity.order_id(seed, position, number)) == (3, seed, position, number)
    assert identity.parse(identity.user_id(seed, position)) == (1, seed, position, 0)
    assert identity.parse(identity.product_id(seed, position)) == (2, seed, position, 0)


@given(SEEDS, SEEDS, POSITIONS, NUMBERS)
def test_bounds_hold_one_seed_and_nothing_of_another(seed: int, other: int, position: int, number: int) -> None:
    low, high = identity.seed_bounds("orders", seed)
    inside = low <= identity.order_id(other, position, number) <= high
    assert inside == (seed == other)


def test_identifiers_of_drivers_are_outside_of_every_kind() -> None:
    now = ObjectId()
    eighties = ObjectId.from_datetime(datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC))
    for collection in identity.KINDS:
        low, high = identity.kind_bounds(collection)
        assert not low <= now <= high
        assert not low <= eighties <= high
        assert low <= identity.seed_bounds(collection, 0)[0] < identity.seed_bounds(collection, 2**32 - 1)[1] <= high
