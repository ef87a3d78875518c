"""Whether money, stock and events of a shop add up, from what the store and the provider hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.support.shops import RunningShop, wait_until

Document = dict[str, Any]


def seen_id(order: Document) -> str:
    """An order's id as callers see it."""
    return f"{order['region']}.{order['user_id']}.{order['_id']}"


def must_add_up(shop: RunningShop, database: Any, accepted: Iterable[str], first_stock: int) -> Counter[str]:
    """Wait until the shop is at rest, then assert every rule; returns orders by status."""
    problems = wait_for_rest(shop, database, set(accepted), first_stock)
    assert not problems, problems
    return Counter(order["status"] for order in database["orders"].find({"version": {"$exists": True}}))


def wait_for_rest(
    shop: RunningShop, database: Any, accepted: set[str], first_stock: int, seconds: float = 60
) -> list[str]:
    """What is still wrong after `seconds`, nothing as soon as nothing is."""
    found: list[list[str]] = [[]]

    def look() -> bool:
        found[0] = problems(shop, database, accepted, first_stock)
        return not found[0]

    try:
        wait_until(look, "the shop to add up", seconds)
    except AssertionError:
        return found[0]
    return []


def problems(shop: RunningShop, database: Any, accepted: set[str], first_stock: int) -> list[str]:
    """Every rule that does not hold now."""
    orders = {seen_id(order): order for order in database["orders"].find({"version": {"$exists": True}})}
    found = [f"{order} was accepted and is lost" for order in accepted - orders.keys()]
    found += [f"{id_} is still {o['status']}" for id_, o in orders.items() if o["status"] in ("pending", "reserved")]
    found += _money(shop, orders)
    found += _stock(database, orders, first_stock)
    found += _events(database, orders)
    return found[:20]


def _money(shop: RunningShop, orders: dict[str, Document]) -> list[str]:
    charges: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    after = 0
    while page := shop.provider("GET", f"/ledger?after={after}&limit=5000")["items"]:
        after = page[-1]["number"]
        for entry in page:
            if entry["answer"] == "captured":
                charges[entry["order"]] += 1
                kept[entry["order"]] += entry["amount_cents"]
            elif entry["answer"] == "refunded":
                kept[entry["order"]] -= entry["amount_cents"]
    found = [f"{id_} was charged {times} times" for id_, times in charges.items() if times > 1]
    for id_, order in orders.items():
        owed = order["total_cents"] if order["status"] == "confirmed" else 0
        if kept[id_] != owed:
            found.append(f"{id_} is {order['status']} and {kept[id_]} cents were kept, not {owed}")
    return found


def _stock(database: Any, orders: dict[str, Document], first: int) -> list[str]:
    sold: Counter[str] = Counter()
    for order in orders.values():
        if order["status"] == "confirmed":
            for item in order["items"]:
                sold[str(item["product_id"])] += item["quantity"]
    return [
        f"{stock['_id']}: {stock['available']} pieces left of {first}, {sold[stock['_id']]} were sold"
        for stock in database["stock"].find()
        if stock["available"] != first - sold[stock["_id"]]
    ]


def _events(database: Any, orders: dict[str, Document]) -> list[str]:
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    types: dict[str, Counter[str]] = defaultdict(Counter)
    for event in database["events"].find():
        numbers[event["key"], event["producer"]].append(event["number"])
        types[event["key"]][event["type"]] += 1
    found = [
        f"events of {key} by {producer} are numbered {sorted(those)}"
        for (key, producer), those in numbers.items()
        if sorted(those) != list(range(1, len(those) + 1))
    ]
    told = Counter(n["key"] for n in database["notifications"].find({"type": {"$regex": "^order-"}}))
    for id_, order in orders.items():
        wanted = sum(types[id_][kind] for kind in ("order-confirmed", "order-cancelled"))
        if order["status"] in ("confirmed", "cancelled") and (wanted < 1 or told[id_] != wanted):
            found.append(f"{id_} ended {wanted} times and its customer was told {told[id_]} times")
    return found
