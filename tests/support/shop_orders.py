"""A careful client: it asks with the same key until there is an answer, and remembers what was accepted."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests

from tests.support.shops import RunningShop, wait_until


@dataclass
class Buyer:
    """Places orders of these customers; `accepted` are the ids of those that the shop took."""

    shop: RunningShop
    customers: Sequence[str]
    products: Sequence[str]
    accepted: list[str] = field(default_factory=list)

    def place(self, turn: int) -> str:
        """Place an order of the customer and product of this turn; its id."""
        key, customer = secrets.token_hex(12), self.customers[turn % len(self.customers)]
        body = {"items": [{"product_id": self.products[turn % len(self.products)], "quantity": 1}]}

        def attempt() -> requests.Response | None:
            try:
                answer = self.shop.call("order", "POST", "/orders", customer=customer, body=body, key=key)
            except requests.RequestException:
                return None
            return None if answer.status_code in (409, 503) else answer

        answer: requests.Response = wait_until(attempt, "an order to be accepted")
        assert answer.status_code == 201, answer.text
        order: str = answer.json()["id"]
        self.accepted.append(order)
        return order
