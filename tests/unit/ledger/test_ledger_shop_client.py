"""What the customers of the shop workload do next, what they ask of the services, and what they answer the journal."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.ledger.journal import token
from shardmart.ledger.shop.http import Answer, RequestError
from shardmart.ledger.system import PrepareError
from shardmart.ledger.workloads.shop import PRODUCTS, ShopClient, ShopGenerator

Request = dict[str, Any]
NAMES = [f"p{number}" for number in range(PRODUCTS)]
CUSTOMERS = ["APJ.ann", "EMEA.bob"]


class Services:
    """Answers one request as it is told to, and keeps what was asked."""

    def __init__(self) -> None:
        self.answer = Answer(200, {}, retry_after=False)
        self.asked: Request = {}

    def until_answered(self, method: str, url: str, token: str, key: str | None = None, body: Any = None) -> Answer:
        self.asked = {"method": method, "url": url, "as": token, "key": key, "body": body}
        return self.answer

    def once(self, method: str, url: str, token: str, *, body: Any = None, if_match: str | None = None) -> Answer:
        self.asked = {"method": method, "url": url, "as": token, "if_match": if_match, "body": body}
        return self.answer


class Shelves:
    def __init__(self, customers: list[str], products: list[str]) -> None:
        self._customers, self._products = customers, products

    def customers(self) -> list[str]:
        return self._customers

    def products(self, count: int) -> list[str]:
        return self._products[:count]

    def pieces(self) -> dict[str, int]:
        return {product: 100 + number for number, product in enumerate([*NAMES, "another"])}


@pytest.fixture
def services() -> Services:
    return Services()


def client_of(services: Services, customers: list[str], products: list[str]) -> ShopClient:
    place = SimpleNamespace(
        urls={"order": "http://o", "inventory": "http://i"}, token=lambda customer: customer or "the operator"
    )
    system = SimpleNamespace(place=place, http=services, stores=Shelves(customers, products))
    return ShopClient(system, "r1")  # type: ignore[arg-type]


@pytest.fixture
def client(services: Services) -> ShopClient:
    found = client_of(services, CUSTOMERS, NAMES)
    found.begin()
    return found


def answers(services: Services, status: int, document: Any) -> None:
    services.answer = Answer(status, document, retry_after=False)


@pytest.mark.parametrize(("customers", "products"), [([], NAMES), (CUSTOMERS, NAMES[:-1]), (CUSTOMERS, [])])
def test_a_shop_without_customers_or_with_too_few_products_is_to_be_seeded(
    services: Services, customers: list[str], products: list[str]
) -> None:
    with pytest.raises(PrepareError, match="seed it: `make shop`"):
        client_of(services, customers, products).begin()


def test_the_first_operation_says_what_there_was(client: ShopClient) -> None:
    first = {product: 100 + number for number, product in enumerate(NAMES)}
    assert client.invoke("open", {}, 0) == {"customers": CUSTOMERS, "products": NAMES, "first": first}


def test_an_order_is_placed_under_its_own_key_with_its_token_in_the_address(
    client: ShopClient, services: Services
) -> None:
    lines = [{"product_id": "p4", "quantity": 2, "price": 5}]
    answers(services, 201, {"id": "EMEA.bob.1", "version": 1, "items": lines})
    found = client.invoke("place", {"customer": 3, "items": [[4, 2]]}, 77)
    assert found == {"id": "EMEA.bob.1", "op": 77, "version": 1, "items": [["p4", 2]]}
    assert services.asked == {
        "method": "POST", "url": "http://o/orders", "as": "EMEA.bob", "key": "r1-77",
        "body": {
            "items": [{"product_id": "p4", "quantity": 2}],
            "address": {"street": "r1:77", "postcode": "00000", "city": "placed", "country": "DE"},
        },
    }  # fmt: skip


def test_the_operator_restocks_a_product(client: ShopClient, services: Services) -> None:
    assert client.invoke("restock", {"product": 4, "quantity": 6}, 77) == 1
    url = "http://i/stock/p4/restock"
    wanted = {"method": "POST", "url": url, "as": "the operator", "key": "r1-77", "body": {"quantity": 6}}
    assert services.asked == wanted


def test_a_customer_looks_at_his_order(client: ShopClient, services: Services) -> None:
    answers(services, 200, {"status": "confirmed", "version": 3})
    assert client.invoke("look", {"id": "APJ.ann.1"}, 77) == ["confirmed", 3]
    url = "http://o/orders/APJ.ann.1"
    assert services.asked == {"method": "GET", "url": url, "as": "APJ.ann", "key": None, "body": None}


@pytest.mark.parametrize(
    ("status", "document", "result"), [(200, {"status": "cancelled"}, 1), (409, {"detail": "shipped"}, 0)]
)
def test_a_cancellation_is_done_or_refused(
    client: ShopClient, services: Services, status: int, document: Any, result: int
) -> None:
    answers(services, status, document)
    assert client.invoke("cancel", {"id": "APJ.ann.1"}, 77) == result
    url = "http://o/orders/APJ.ann.1/cancel"
    assert services.asked == {"method": "POST", "url": url, "as": "APJ.ann", "key": "r1-77", "body": None}


CHANGE = {"id": "APJ.ann.1", "op": 70, "version": 2, "product": "p4", "quantity": 3}


@pytest.mark.parametrize(("status", "document", "result"), [(200, {"version": 3}, 3), (409, {}, 0), (412, {}, 0)])
def test_a_change_is_sent_once_on_the_version_that_was_seen(
    client: ShopClient, services: Services, status: int, document: Any, result: int
) -> None:
    answers(services, status, document)
    assert client.invoke("change", CHANGE, 77) == result
    assert services.asked == {
        "method": "PATCH", "url": "http://o/orders/APJ.ann.1", "as": "APJ.ann", "if_match": '"2"',
        "body": {
            "items": [{"product_id": "p4", "quantity": 3}],
            "address": {"street": "r1:70", "postcode": "00000", "city": "77", "country": "DE"},
        },
    }  # fmt: skip


OPERATIONS: dict[str, dict[str, Any]] = {
    "place": {"customer": 0, "items": [[4, 2]]},
    "restock": {"product": 4, "quantity": 6},
    "look": {"id": "APJ.ann.1"},
    "cancel": {"id": "APJ.ann.1"},
    "change": CHANGE,
}


@pytest.mark.parametrize("function", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "document", "outcome"),
    [
        (400, {"detail": "x"}, "failed"),
        (404, {"detail": "x"}, "failed"),
        (499, {"detail": "x"}, "failed"),
        (500, {"detail": "x"}, "unknown"),
        (503, {"detail": "x"}, "unknown"),
        (302, {"detail": "x"}, "unknown"),
    ],
)
def test_a_refusal_is_a_failure_and_any_other_answer_proves_nothing(
    client: ShopClient, services: Services, function: str, status: int, document: Any, outcome: str
) -> None:
    answers(services, status, document)
    with pytest.raises(RequestError, match=f"^HTTP {status}: x$") as failure:
        client.invoke(function, OPERATIONS[function], 77)
    assert failure.value.outcome == outcome


@pytest.mark.parametrize("function", OPERATIONS)
def test_the_right_status_without_a_document_proves_nothing(
    client: ShopClient, services: Services, function: str
) -> None:
    answers(services, 201 if function == "place" else 200, None)
    with pytest.raises(RequestError) as failure:
        client.invoke(function, OPERATIONS[function], 77)
    assert failure.value.outcome == "unknown"


def order(client: int, number: int) -> dict[str, Any]:
    return {"id": f"c{client}.{number}", "op": token(client, number), "version": 1, "items": [["p", 2], ["q", 1]]}


def drawn(generator: ShopGenerator, client: int, count: int = 4000) -> list[tuple[str, dict[str, Any]]]:
    dice = random.Random(1)
    return [generator.next(client, token(client, number), dice) for number in range(count)]


def test_client_0_opens_once_and_nobody_else_does() -> None:
    generator = ShopGenerator()
    assert "open" not in {function for function, _ in drawn(generator, 1, 50)}
    assert generator.next(0, 0, random.Random(1)) == ("open", {})
    assert "open" not in {function for function, _ in drawn(generator, 0)}


def test_who_has_no_order_places_one_or_restocks() -> None:
    said = drawn(ShopGenerator(), 1)
    assert {function for function, _ in said} == {"place", "restock"}
    for function, value in said:
        if function == "restock":
            assert value["product"] in range(PRODUCTS)
            assert value["quantity"] in range(1, 11)
        else:
            products = [product for product, _ in value["items"]]
            assert len(products) == len(set(products)) in (1, 2)
            assert {quantity for _, quantity in value["items"]} <= {1, 2, 3}
    assert {product for f, v in said if f == "place" for product, _ in v["items"]} == set(range(PRODUCTS))


def test_the_mixture_of_who_has_orders() -> None:
    generator = ShopGenerator()
    generator.acknowledged("place", {}, order(1, 5))
    counted = Counter(function for function, _ in drawn(generator, 1))
    share = {function: count / counted.total() for function, count in counted.items()}
    wanted = {"change": 0.15, "cancel": 0.15, "look": 0.15, "restock": 0.05, "place": 0.5}
    assert share == pytest.approx(wanted, abs=0.03)


def test_a_client_touches_only_his_own_orders_and_changes_the_newest() -> None:
    generator = ShopGenerator()
    for client in (1, 2):
        for number in (5, 6):
            generator.acknowledged("place", {}, order(client, number))
    said = drawn(generator, 1)
    changes = [value for function, value in said if function == "change"]
    for value in changes:
        assert (value["id"], value["op"], value["version"]) == ("c1.6", token(1, 6), 1)
        assert value["product"] in ("p", "q")
        assert value["quantity"] in (1, 2, 3)
    for function in ("look", "cancel"):
        assert {value["id"] for name, value in said if name == function} == {"c1.5", "c1.6"}


@pytest.mark.parametrize(("changed", "result", "version"), [(6, 4, 4), (6, 0, 1), (5, 4, 1)])
def test_the_next_change_is_of_the_version_that_the_last_one_made(changed: int, result: int, version: int) -> None:
    generator = ShopGenerator()
    for number in (5, 6):
        generator.acknowledged("place", {}, order(1, number))
    generator.acknowledged("change", {"id": f"c1.{changed}", "op": token(1, changed)}, result)
    generator.acknowledged("look", {"id": "c1.6", "op": token(1, 6)}, 9)
    assert {value["version"] for function, value in drawn(generator, 1) if function == "change"} == {version}
