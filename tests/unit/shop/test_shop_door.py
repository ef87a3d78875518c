"""What comes in at the door of the services, and what does not: the order service's app on memory."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from shardmart.shop.adapters.memory import MemoryCarts, MemoryCatalogue, MemoryStore
from shardmart.shop.ports import KeyInUseError
from shardmart.shop.services.catalogue import CachedStocks, Catalogue
from shardmart.shop.settings import Settings, load
from shardmart.shop.web import catalogue_api, order_api
from shardmart.shop.web.app import Instance, build
from shardmart.shop.web.door import Rates, RefusedError, _must_be_json, must_be_flat
from shardmart.shop.web.tokens import issue
from tests.support.asgi import AsgiClient
from tests.support.shop_apps import MemoryStocks
from tests.support.shop_in_memory import CUSTOMER, REGIONS, MemoryShop

KEY = "k" * 40
TEA = {"items": [{"product_id": "tea", "quantity": 2}]}


@pytest.fixture
def shop(tmp_path: Path) -> MemoryShop:
    return MemoryShop(tmp_path)


def app_of(shop: MemoryShop, **limits: Any) -> FastAPI:
    settings = Settings.model_validate({"tokens": {"keys": [KEY]}, "limits": {"burst": 100_000} | limits})
    instance = Instance("order", "order-1", settings)
    instance.ping = shop.store.ping
    app = build(instance, "Orders", "")
    order_api.add(app, shop.store, shop.log, instance.telemetry, REGIONS)
    return app


@pytest.fixture
def client(shop: MemoryShop) -> AsgiClient:
    return AsgiClient(app_of(shop))


def mine(key: str = "1", subject: str = f"customer:{CUSTOMER}") -> dict[str, str]:
    return {"Authorization": f"Bearer {issue([KEY], subject, 3600)}", "Idempotency-Key": key}


def must_be_a_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["trace"] == answer.headers["trace-id"]
    return document


class Counting(MemoryCatalogue):
    """Products, and how often a page of them was asked for."""

    asked = 0

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[Any]:
        self.asked += 1
        return await super().page(after, limit, text, category)


def test_the_same_key_and_body_get_the_same_answer_and_another_body_is_refused(
    shop: MemoryShop, client: AsgiClient
) -> None:
    first = client.post("/orders", json=TEA, headers=mine())
    again = client.post("/orders", json=TEA, headers=mine())
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    other = client.post("/orders", json={"items": [{"product_id": "tea", "quantity": 3}]}, headers=mine())
    must_be_a_problem(other, 422)
    assert sum(kind.__name__ == "Order" for kind, _ in shop.memory.aggregates) == 1


def test_a_key_is_its_callers_own(shop: MemoryShop, client: AsgiClient) -> None:
    shop.memory.customers["EMEA.u2"] = {"name": "Bob", "email": "bob@shop.example"}
    one = client.post("/orders", json=TEA, headers=mine())
    two = client.post("/orders", json=TEA, headers=mine(subject="customer:EMEA.u2"))
    assert one.json()["id"] != two.json()["id"]


def test_an_answer_is_given_again_even_if_the_same_would_be_refused_by_now(
    shop: MemoryShop, client: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardmart.shop.services.order.PRICE_SECONDS", -1.0)
    first = client.post("/orders", json=TEA, headers=mine())
    del shop.memory.products_["tea"]
    must_be_a_problem(client.post("/orders", json=TEA, headers=mine("2")), 422)
    assert client.post("/orders", json=TEA, headers=mine()).content == first.content


def test_a_store_that_is_away_is_503_with_retry_after_and_leaves_nothing_half(
    shop: MemoryShop, client: AsgiClient
) -> None:
    shop.memory.away = True
    answer = client.post("/orders", json=TEA, headers=mine())
    must_be_a_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert client.get("/readyz").status_code == 503
    shop.memory.away = False
    assert shop.memory.aggregates == {}
    assert client.post("/orders", json=TEA, headers=mine()).status_code == 201, "a 503 is not stored under the key"


def test_a_key_whose_first_request_is_being_handled_is_409_and_later_has_its_answer(
    shop: MemoryShop, client: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any) -> None:
        raise KeyInUseError("the first request with this key is being handled")

    with monkeypatch.context() as first:
        first.setattr(MemoryStore, "transact", busy)
        answer = client.post("/orders", json=TEA, headers=mine())
    must_be_a_problem(answer, 409)
    assert answer.headers["Retry-After"] == "1"
    assert client.post("/orders", json=TEA, headers=mine()).status_code == 201


def test_an_idempotency_key_is_needed(client: AsgiClient) -> None:
    headers = mine()
    del headers["Idempotency-Key"]
    must_be_a_problem(client.post("/orders", json=TEA, headers=headers), 422)


def test_an_order_is_read_by_its_customer_and_operators_only(client: AsgiClient) -> None:
    order = client.post("/orders", json=TEA, headers=mine()).json()["id"]
    assert client.get(f"/orders/{order}", headers=mine()).json()["id"] == order
    assert client.get(f"/orders/{order}", headers=mine(subject="operator")).status_code == 200
    must_be_a_problem(client.get(f"/orders/{order}", headers=mine(subject="customer:EMEA.u2")), 404)
    must_be_a_problem(client.get(f"/orders?user={CUSTOMER}", headers=mine(subject="customer:EMEA.u2")), 404)
    must_be_a_problem(client.post(f"/orders/{order}/cancel", headers=mine(subject="customer:EMEA.u2")), 404)
    must_be_a_problem(client.get(f"/orders/{order}"), 401)
    must_be_a_problem(client.get("/summary", headers=mine()), 403)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", issue(["z" * 40], "operator", 60), issue([KEY], "operator", -60)])
def test_a_token_of_others_or_of_yesterday_opens_nothing(client: AsgiClient, token: str) -> None:
    must_be_a_problem(client.get("/orders", headers={"Authorization": f"Bearer {token}"}), 401)


def test_a_change_needs_the_version_that_was_seen(client: AsgiClient) -> None:
    placed = client.post("/orders", json=TEA, headers=mine())
    path, change = placed.headers["Location"], {"items": [{"product_id": "tea", "quantity": 5}]}
    must_be_a_problem(client.patch(path, json=change, headers=mine()), 428)
    must_be_a_problem(client.patch(path, json=change, headers=mine() | {"If-Match": '"9"'}), 412)
    done = client.patch(path, json=change, headers=mine() | {"If-Match": placed.headers["ETag"]})
    assert done.json()["total_cents"] == 1500
    assert done.headers["ETag"] != placed.headers["ETag"]


def test_pages_of_orders_are_whole_and_newest_first(client: AsgiClient) -> None:
    placed = [client.post("/orders", json=TEA, headers=mine(str(n))).json()["id"] for n in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/orders?limit=3{f'&cursor={cursor}' if cursor else ''}", headers=mine()).json()
        seen += [order["id"] for order in page["items"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(placed)
    assert len(seen) == 7


def test_a_product_on_two_lines_is_one_line(client: AsgiClient) -> None:
    body = {"items": [{"product_id": "tea", "quantity": 2}, {"product_id": "tea", "quantity": 3}]}
    placed = client.post("/orders", json=body, headers=mine()).json()
    assert placed["items"] == [{"product_id": "tea", "quantity": 5, "unit_price_cents": 300}]


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b'{"items": 1e400}',
    b'{"items": [{"product_id": "tea", "quantity": NaN}]}',
    b'{"items": [{"product_id": "te\\u0000a", "quantity": 1}]}',
    b'{"items": [{"product_id": "\\ud800", "quantity": 1}]}',
    b'{"items": [{"product_id": "tea", "quantity": 1e400}]}',
    b'{"items": [{"product_id": "tea", "quantity": 1.5}]}',
    b'{"items": [{"product_id": "tea", "quantity": "1"}]}',
    b'{"items": [{"product_id": "tea", "quantity": true}]}',
    b'{"items": [{"product_id": "tea", "quantity": 9223372036854775808}]}',
    b'{"items": [{"product_id": {"$where": "1"}, "quantity": 1}]}',
    b'{"items": [{"product_id": "$where", "quantity": 1}]}',
    b'{"items": [], "$where": "1"}',
    b'{"items": [{"product_id": "tea", "quantity": 1, "unit_price_cents": 1}]}',
    b"\xff\xfe",
    b"[" * 5000,
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_bad_body_is_a_problem_and_never_500(client: AsgiClient, body: bytes) -> None:
    answer = client.post("/orders", content=body, headers=mine() | {"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    must_be_a_problem(answer, answer.status_code)


HEADERS = mine("same") | {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path", ["/orders/%00", "/orders/%ff", "/orders?user=%00", "/orders?cursor=x", "/orders?cursor=W10="]
)
def test_a_bad_address_is_a_problem(client: AsgiClient, path: str) -> None:
    answer = client.get(path, headers=mine())
    assert answer.status_code in (400, 404, 422)
    must_be_a_problem(answer, answer.status_code)


def test_a_body_is_bounded_and_must_be_json(client: AsgiClient) -> None:
    large = json.dumps({"items": [], "customer": "x" * 70_000})
    must_be_a_problem(client.post("/orders", content=large, headers=HEADERS), 413)
    must_be_a_problem(client.post("/orders", content=b"a=b", headers=mine() | {"Content-Type": "text/plain"}), 415)


def test_one_caller_cannot_take_all_places(shop: MemoryShop) -> None:
    client = AsgiClient(app_of(shop, burst=2, requests_per_second=0.001))
    assert [client.get("/orders", headers=mine()).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/orders", headers=mine(subject="customer:EMEA.u2")).status_code == 200


def test_another_token_of_the_same_caller_is_no_new_place(shop: MemoryShop) -> None:
    client = AsgiClient(app_of(shop, burst=2, requests_per_second=0.001))
    tokens = [issue([KEY], f"customer:{CUSTOMER}", 60 + n) for n in range(3)]
    answers = [client.get("/orders", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_made_up_tokens_share_one_place_and_take_none_of_those_who_send_none(shop: MemoryShop) -> None:
    client = AsgiClient(app_of(shop, burst=2, requests_per_second=0.001))
    made_up = [client.get("/orders", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(4)]
    assert made_up == [401, 401, 429, 429]
    assert client.get("/orders").status_code == 401
    assert client.get("/orders", headers=mine()).status_code == 200


def test_rates_come_back_with_time() -> None:
    rates = Rates(per_second=2, burst=1)
    assert [rates.allows("a", at) for at in (0.0, 0.1, 0.5, 1.0)] == [True, False, True, True]


def test_a_trace_is_taken_over_and_reaches_the_event(shop: MemoryShop, client: AsgiClient) -> None:
    trace = "ab" * 16
    answer = client.post("/orders", json=TEA, headers=mine() | {"traceparent": f"00-{trace}-{'1' * 16}-01"})
    assert answer.headers["trace-id"] == trace
    assert [event.trace for event in shop.memory.events] == [trace]


def test_a_file_of_settings_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps({"tokens": {"keys": [KEY]}}))
    file.chmod(0o644)
    with pytest.raises(Exception, match="chmod 600"):
        load(file)
    file.chmod(0o600)
    assert load(file).tokens.keys == (KEY,)
    file.write_text(json.dumps({"tokens": {"keys": [KEY]}, "redis": "x"}))
    with pytest.raises(Exception, match="redis"):
        load(file)


def counted_catalogue(shop: MemoryShop, fresh_seconds: float) -> tuple[AsgiClient, Counting]:
    """The catalogue's door, whose pages are kept so long, and the store behind it, which counts."""
    instance = Instance("catalogue", "catalogue-1", Settings.model_validate({"tokens": {"keys": [KEY]}}))
    app, products = build(instance, "Catalogue", ""), Counting(shop.memory)
    catalogue = Catalogue(products, products, CachedStocks(None, MemoryStocks(shop)), fresh_seconds)
    catalogue_api.add(app, catalogue, MemoryCarts(shop.memory), fresh_seconds, REGIONS)
    return AsgiClient(app), products


def test_a_page_is_made_once_while_it_is_fresh_and_counted_each_time(shop: MemoryShop) -> None:
    client, products = counted_catalogue(shop, fresh_seconds=3600)
    first, again = (client.get("/api/products?limit=1") for _ in range(2))
    assert again.content == first.content
    assert json.loads(first.content)[0]["id"]
    assert {k: v for k, v in again.headers.items() if k != "trace-id"} == {
        k: v for k, v in first.headers.items() if k != "trace-id"
    }
    assert again.headers["link"].startswith("</api/products?limit=1&after=")
    assert again.headers["trace-id"] != first.headers["trace-id"]
    assert client.get("/api/products?limit=1&q=tea").content != first.content
    assert client.get("/api/products?limit=0").status_code == 422
    assert products.asked == 2
    counted = 'shop_http_requests_total{method="GET",route="/api/products",service="catalogue",status="200"} 3.0'
    assert counted in client.get("/metrics").text


def test_a_page_that_is_not_to_be_kept_is_made_each_time(shop: MemoryShop) -> None:
    client, products = counted_catalogue(shop, fresh_seconds=0)
    client.get("/api/products")
    client.get("/api/products")
    assert products.asked == 2


DEEP = ["[" * 9000, '{"a":' * 9000, '["\\"]"' + ',["a]"' * 9000, "[" * 9000 + '"']


@pytest.mark.parametrize("text", DEEP, ids=["lists", "objects", "brackets in strings", "a string without an end"])
def test_nothing_that_runs_while_a_deep_body_is_read_runs_out_of_stack(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector runs finalizers wherever it is; here one looks on whenever it does."""
    failed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)

    def needs_some_stack(left: int = 30) -> None:
        if left:
            needs_some_stack(left - 1)

    def look(phase: str, info: dict[str, int]) -> None:
        needs_some_stack()

    thresholds = gc.get_threshold()
    gc.callbacks.append(look)
    gc.set_threshold(5)
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            must_be_flat(text)
        with pytest.raises(RefusedError):
            _must_be_json(text.encode())
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(look)
    assert failed == []


@pytest.mark.parametrize(
    "text", ['"' + "[" * 99 + '"', "[" * 32 + "]" * 32, "[[]," * 8 + "[]" + "]" * 8, '{"\\\\": "\\"["}']
)
def test_json_that_is_flat_enough_is_let_in(text: str) -> None:
    json.loads(text)
    must_be_flat(text)


def test_a_body_of_quotes_is_looked_at_once() -> None:
    """Quadratic, it would take minutes."""
    must_be_flat('"' + '\\"' * 500_000)
    must_be_flat('"\\' * 500_000)
