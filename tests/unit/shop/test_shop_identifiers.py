"""An identifier is text in two or three parts, and anything else is nothing that exists."""

from __future__ import annotations

import pytest

from shardmart.shop.domain.errors import NotFoundError
from shardmart.shop.domain.identifiers import MAXIMUM_LENGTH, Customer, OrderId


@pytest.mark.parametrize("text", ["APJ.7", "EMEA.a-b"])
def test_customer_is_what_was_written(text: str) -> None:
    assert str(Customer.parse(text)) == text


def test_order_names_its_customer_and_region() -> None:
    order = OrderId.parse("APJ.7.19")
    assert (str(order), order.customer, order.order, order.region) == ("APJ.7.19", Customer("APJ", "7"), "19", "APJ")


@pytest.mark.parametrize("text", ["", "APJ", "APJ.", ".7", "APJ.7.1", "APJ..7", "A." + "7" * MAXIMUM_LENGTH])
def test_anything_else_is_no_customer(text: str) -> None:
    with pytest.raises(NotFoundError, match="there is no such customer"):
        Customer.parse(text)


@pytest.mark.parametrize("text", ["", "APJ.7", "APJ.7.", ".7.1", "APJ..1", "APJ.7.1.2", "A.7." + "1" * MAXIMUM_LENGTH])
def test_anything_else_is_no_order(text: str) -> None:
    with pytest.raises(NotFoundError, match="there is no such order"):
        OrderId.parse(text)
