"""Claims of fragments.money: prices are exact, bands have no gap, and what is no price is refused by name."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmart.fragments import money
from shardmart.fragments.money import BANDS, CATCH_ALL, PriceError, band_of, cents


@pytest.mark.parametrize(
    ("price", "expected"),
    [("10", 1000), ("10.5", 1050), ("10.05", 1005), (12, 1200), (Decimal("9.90"), 990), ("0.01", 1), ("007", 700)],
)
def test_prices_are_read_exactly(price: object, expected: int) -> None:
    assert cents(price) == expected


@pytest.mark.parametrize(
    "price",
    ["NaN", Decimal("NaN"), Decimal("Infinity"), None, "9.995", "\uff11\uff12.\uff15\uff10", "\u0661\u0662", "-1",
     "1e3", "", " 5", "5 ", "5.", ".5", "1,50", 9.99, float("nan"), True, "12345678", "10\n"],
)  # fmt: skip
def test_what_is_no_price_is_refused_with_the_name_of_the_product(price: object) -> None:
    with pytest.raises(PriceError, match=r"^Red Kettle: "):
        cents(price, "Red Kettle")


def test_bands_meet_to_the_cent() -> None:
    assert [(band.low, band.high) for band in BANDS] == [(1_000, 10_100), (10_100, 25_100), (25_100, 50_100)]
    for below, above in pairwise(BANDS):
        assert band_of(below.high - 1) == below
        assert band_of(below.high) == above


@given(st.integers(0, 99_999))
def test_every_price_has_exactly_one_band_or_is_refused_by_name(value: int) -> None:
    holding = [band for band in BANDS if band.low <= value < band.high]
    if holding:
        assert [band_of(value)] == holding
    else:
        with pytest.raises(PriceError, match=r"^Kettle: no fragment holds the price "):
            band_of(value, "Kettle")
        assert band_of(value, catch_all=True) == CATCH_ALL


@given(st.integers(0, 999_999_999))
def test_a_price_survives_being_written_and_read(value: int) -> None:
    assert cents(money.text(value)) == value
