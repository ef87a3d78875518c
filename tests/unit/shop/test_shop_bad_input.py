"""Bad input to every endpoint of the shop: a problem document with the right status, never 500."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.shop.domain.errors import InvalidError
from shardmart.shop.services.provider import ProviderLedger
from tests.support.asgi import Answer, AsgiClient
from tests.support.shop_apps import MINE, OPERATOR, PROVIDER, WEBHOOK_SECRET, app_in_memory
from tests.support.shop_bad_bodies import bad_bodies, endpoints, headers_for
from tests.support.shop_in_memory import CUSTOMER, MemoryShop

ENDPOINTS = endpoints(f"{CUSTOMER}.x", MINE, OPERATOR, PROVIDER)
BODIES = 10_000
JSON = {"Content-Type": "application/json"}


class Clients(dict[str, AsgiClient]):
    """A client of each service, made when it is asked for; all on one memory."""

    def __init__(self, folder: Path) -> None:
        self._shop, self._folder = MemoryShop(folder), folder

    def __missing__(self, service: str) -> AsgiClient:
        self[service] = client = AsgiClient(app_in_memory(service, self._shop, self._folder))
        return client


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path)


def is_problem(answer: Answer) -> bool:
    """Whether it is a problem document of its own status (RFC 9457)."""
    if answer.headers["content-type"] != "application/problem+json":
        return False
    document: dict[str, Any] = answer.json()
    return bool(document["status"] == answer.status_code and document["trace"] == answer.headers["trace-id"])


def place(client: AsgiClient) -> str:
    body = {"items": [{"product_id": "tea", "quantity": 1}]}
    order: str = client.post("/orders", json=body, headers=MINE | {"Idempotency-Key": "first"}).json()["id"]
    return order


@pytest.mark.parametrize("number", range(len(ENDPOINTS)), ids=[e.name.replace(" ", "-") for e in ENDPOINTS])
def test_each_of_ten_thousand_bad_bodies_gets_a_problem_with_its_status(clients: Clients, number: int) -> None:
    endpoint = endpoints(place(clients["order"]), MINE, OPERATOR, PROVIDER)[number]
    wrong = []
    for turn, bad in enumerate(bad_bodies(endpoint, BODIES // len(ENDPOINTS) + 1, seed=14)):
        headers = headers_for(endpoint, bad.body, turn, WEBHOOK_SECRET)
        answer = clients[endpoint.service].request(endpoint.method, endpoint.path, content=bad.body, headers=headers)
        if answer.status_code not in bad.right or (answer.status_code >= 400 and not is_problem(answer)):
            wrong.append(f"{bad.what}: {answer.status_code}, not {sorted(bad.right)}: {answer.text[:200]}")
    assert wrong == []


def cursor(at: str, order: str) -> str:
    return base64.urlsafe_b64encode(f'["{at}", "{order}"]'.encode()).decode()


NOON = "2026-01-01T12:00:00+00:00"
BAD_CURSORS = [
    cursor("0001-01-01T00:00:00+14:00", "x"),
    cursor("9999-12-31T23:59:59-14:00", "x"),
    cursor("1969-12-31T00:00:00+00:00", "x"),
    cursor("2026-01-01T12:00:00", "x"),
    cursor(NOON, "\\ud800"),
    cursor(NOON, "a\\u0000b"),
    cursor(NOON, ""),
    cursor(NOON, "x" * 201),
    base64.urlsafe_b64encode(b"[1, 2]").decode(),
    base64.urlsafe_b64encode(b'["2026-01-01T12:00:00+00:00", 7]').decode(),
    base64.urlsafe_b64encode(b'["2026-01-01T12:00:00+00:00", ["x"]]').decode(),
    base64.urlsafe_b64encode(b"[" * 300).decode(),
    "%C3%A4%C3%B6",
    "====",
]


@pytest.mark.parametrize("text", BAD_CURSORS)
def test_a_cursor_that_no_page_gave_is_refused_and_never_reaches_a_store(clients: Clients, text: str) -> None:
    answer = clients["order"].get(f"/orders?cursor={text}", headers=MINE)
    assert (answer.status_code, is_problem(answer)) == (422, True), answer.text


@pytest.mark.parametrize(
    "time",
    [
        '"0001-01-01T00:00:00+14:00"',
        '"9999-12-31T23:59:59-14:00"',
        '"1969-12-31T23:59:59Z"',
        '"2026-01-01T00:00:00"',
        "1e300",
        "-1",
    ],
)
def test_a_replay_from_a_time_that_no_store_can_hold_is_refused_and_asks_nothing(clients: Clients, time: str) -> None:
    answer = clients["order"].post("/replay", content=f'{{"from": {time}}}', headers=OPERATOR | JSON)
    assert (answer.status_code, is_problem(answer)) == (422, True), answer.text
    assert "[" not in answer.json()["detail"], "validators of ours are not named"
    assert clients["order"].get("/replay", headers=OPERATOR).json()["lanes_left"] == 0


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e3", "", " 12", "65537"])
def test_a_length_that_is_none_or_too_much_is_refused(clients: Clients, length: str) -> None:
    answer = clients["order"].post("/orders", content=b"{}", headers=MINE | JSON, length=length)
    assert (answer.status_code, is_problem(answer)) == (413, True), answer.text


NO_TEXTS, BAD_TEXTS = ["%00", "a%00b", "%ff", "%ed%a0%80"], ["$where", "x" * 201, "..", "%F0%9F%98%80", "a.b.c.d"]
ADDRESSES = [
    ("order", "/orders/{}"),
    ("order", "/orders/{}/events"),
    ("order", "/orders?user={}"),
    ("inventory", "/stock/{}"),
    ("inventory", "/reservations/{}"),
    ("payment", "/payments/{}"),
    ("notification", "/notifications/{}"),
    ("catalogue", "/api/products/{}"),
]


@pytest.mark.parametrize(("service", "path"), ADDRESSES)
def test_a_bad_identifier_in_an_address_is_a_problem(clients: Clients, service: str, path: str) -> None:
    for text in (*NO_TEXTS, *BAD_TEXTS):
        answer = clients[service].get(path.format(text), headers=OPERATOR)
        right = (400,) if text in NO_TEXTS else (404, 422)
        assert (answer.status_code in right, is_problem(answer)) == (True, True), f"{text}: {answer.text}"


def test_a_method_that_is_none_says_which_there_are(clients: Clients) -> None:
    answer = clients["order"].request("DELETE", "/orders", headers=OPERATOR)
    assert (answer.status_code, answer.headers["allow"], is_problem(answer)) == (405, "GET, POST", True)


def test_the_providers_keys_stand_for_one_operation_each(tmp_path: Path) -> None:
    ledger = ProviderLedger(tmp_path)
    first = ledger.charge("c", "one", 100, decline=False)
    assert ledger.charge("c", "one", 100, decline=True) == first, "a repetition gets the first answer"
    for call in (
        lambda: ledger.charge("c", "one", 101, decline=False),
        lambda: ledger.charge("c", "two", 100, decline=False),
        lambda: ledger.refund("c", "one", "c", decline=False),
        lambda: ledger.refund("c", "one", "other", decline=False),
        lambda: ledger.refund("r", "two", "c", decline=False),
    ):
        with pytest.raises(InvalidError):
            call()
    assert [json.dumps(entry["key"]) for entry in ledger.entries(0, 10)] == ['"c"']
