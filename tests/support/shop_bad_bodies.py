"""Bodies that a shop must refuse, each with the status that is right for it: the same from the same seed.

A body that would be taken is changed in one place: something that is no usable JSON (400), something of the wrong type
or out of bounds (422), a text that is a text like others (whatever the endpoint makes of it, but never an error of the
shop), or it becomes too long (413).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardmart.shop.adapters.signature import signature

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that takes a body: who asks, and a body that it would take."""

    service: str
    method: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    signed: bool = False

    @property
    def name(self) -> str:
        return f"{self.service} {self.method} {self.path.partition('?')[0]}"


@dataclass(frozen=True)
class Bad:
    """A body, what is wrong with it, and the statuses that are right."""

    body: bytes
    what: str
    right: frozenset[int]


class _Raw(str):
    """Text that is put into the body as it is."""


UNUSABLE = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e999", "9" * 5000, '"\\u0000"', '"a\\u0000b"', '"\\ud800"',
    '"\\udfff x"', '{"\\u0000": 1}', '{"a": {"\\ud800": 1}}', "[" * 50 + "]" * 50, "[" * 9000,
    '{"a":' * 60 + "1" + "}" * 60, "nul", "'x'", ",", "0x10", "01", '"\t"', "[1,]", '"\\x"',
]  # fmt: skip
"""Values that make a body unusable as JSON for one store or another."""
WRONG = [
    "null", "true", "[]", "{}", "1.5", "-1", "9223372036854775808", "1" + "0" * 400, "1e308", '{"$where": "1"}',
    '{"$gt": ""}', '[{"$ne": null}]', "[[[]]]", '""', "[1, 2]", '{"a": {"b": {}}}',
]  # fmt: skip
"""JSON of a type or size that a field of text or a count does not have."""
TEXTS = [
    "$where",
    "$gt",
    "a.b",
    "{}",
    "null",
    "0",
    "-0",
    "9" * 30,
    "0" * 24,
    "ß😀",
    "'; DROP TABLE x --",
    "__proto__",
    "../..",
    "%00",
]
OF_TEXTS = frozenset({200, 201, 202, 403, 404, 409, 412, 422})
LONG = 70_000


def bad_bodies(endpoint: Endpoint, count: int, seed: int) -> Iterator[Bad]:
    """So many, the same each time."""
    dice = random.Random(f"{seed} {endpoint.name}")
    places = list(_places(endpoint.body))
    for _ in range(count):
        roll = dice.random()
        if roll < 0.45 or not places:
            yield _unusable(endpoint, places, dice)
        elif roll < 0.8:
            path, value = dice.choice(places), dice.choice(WRONG)
            yield Bad(_with(endpoint.body, path, _Raw(value)), f"{path} = {value[:40]}", _right(path, value))
        elif roll < 0.87:
            unknown = dict(endpoint.body) | {
                dice.choice(["$where", "__class__", "id", "version", "unit_price_cents"]): 1
            }
            right = {202} if endpoint.signed else {422}  # what the provider says besides is its own affair
            yield Bad(json.dumps(unknown).encode(), f"an unknown field: {unknown}", frozenset(right))
        elif roll < 0.97:
            path, text = dice.choice(places), dice.choice(TEXTS)
            yield Bad(_with(endpoint.body, path, text), f"{path} = {text!r}", OF_TEXTS)
        else:
            yield Bad(_with(endpoint.body, dice.choice(places), "x" * LONG), "too long", frozenset({413}))


def _unusable(endpoint: Endpoint, places: list[Place], dice: random.Random) -> Bad:
    if places and dice.random() < 0.7:
        path, value = dice.choice(places), dice.choice(UNUSABLE)
        body = _with(endpoint.body, path, _Raw(value))
        return Bad(body, f"{path} = {value[:40]}", frozenset({400}))
    whole = dice.choice([value for value in UNUSABLE if value])
    if dice.random() < 0.4:
        noise = bytes(dice.randrange(128, 256) for _ in range(dice.randrange(1, 40)))
        return Bad(noise + b"\xff", "bytes that are no text", frozenset({400}))
    return Bad(whole.encode(), whole[:40], frozenset({400}))


def _right(path: Place, value: str) -> frozenset[int]:
    """What is right where a value of another type or size stands."""
    if value == "null" and path and path[-1] in ("address", "items", "customer", "key"):
        return OF_TEXTS  # what may be left out may be null
    if path and path[-1] in ("share", "seconds") and value == "1.5":
        return frozenset({200, 422})
    if path and path[-1] == "rules" and value == "[]":
        return frozenset({200})
    return frozenset({422})


def _places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where something can stand in a body: every field and item, not the body itself."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _with(value: Any, path: Place, new: str) -> bytes:
    return _text(value, path, new).encode()


def _text(value: Any, path: Place, new: str) -> str:
    """The body as JSON, with `new` at `path`."""
    if not path:
        return new if isinstance(new, _Raw) else json.dumps(new)
    if isinstance(value, Mapping):
        parts = [
            f"{json.dumps(key)}: {_text(item, path[1:], new) if key == path[0] else json.dumps(item)}"
            for key, item in value.items()
        ]
        return "{" + ", ".join(parts) + "}"
    items = [_text(item, path[1:], new) if n == path[0] else json.dumps(item) for n, item in enumerate(value)]
    return "[" + ", ".join(items) + "]"


def headers_for(endpoint: Endpoint, body: bytes, number: int, webhook_secret: str) -> dict[str, str]:
    """Headers that let the body in: a key of its own, and a signature where one is asked for."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"bad-{number}"} | dict(endpoint.headers)
    if endpoint.signed:
        at = int(time.time())
        headers["Provider-Signature"] = f"t={at},v1={signature(webhook_secret, at, body)}"
    return headers


ADDRESS = {"street": "High Street 1", "postcode": "N1 9GU", "city": "London", "country": "GB"}


def endpoints(
    order: str, mine: Mapping[str, str], operator: Mapping[str, str], provider: Mapping[str, str]
) -> list[Endpoint]:
    """Every endpoint of the shop that takes a body; `order` is one that is pending, at its first version."""
    new = {"items": [{"product_id": "tea", "quantity": 1}], "customer": order.rpartition(".")[0], "address": ADDRESS}
    change = {"items": [{"product_id": "tea", "quantity": 2}], "address": ADDRESS}
    rule = {"action": "fail", "share": 0.0, "times": 1, "seconds": 0.0}
    consuming = [
        Endpoint(service, "POST", path, body, operator)
        for service in ("order", "inventory", "payment", "notification")
        for path, body in (("/parked/again", {"key": "EMEA.u1.x"}), ("/replay", {"from": "beginning"}))
    ]
    return [
        Endpoint("order", "POST", "/orders", new, mine),
        Endpoint("order", "POST", "/orders", new, operator),
        Endpoint("order", "PATCH", f"/orders/{order}", change, dict(mine) | {"If-Match": '"1"'}),
        Endpoint("order", "POST", f"/orders/{order}x/cancel", {}, mine),
        Endpoint("inventory", "POST", "/stock/tea/restock", {"quantity": 1}, operator),
        Endpoint("payment", "POST", f"/payments/{order}/refund", {}, operator),
        Endpoint("payment", "POST", "/webhooks/provider", {"order": order}, {}, signed=True),
        Endpoint("provider", "POST", "/charges", {"order": order, "amount_cents": 100}, provider),
        Endpoint("provider", "POST", "/refunds", {"order": order, "charge_key": "charge:1"}, provider),
        Endpoint("provider", "PUT", "/rules", {"rules": [rule]}, provider),
        *consuming,
    ]
