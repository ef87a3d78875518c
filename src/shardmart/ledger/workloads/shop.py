"""Shop: customers place, change and cancel orders over HTTP, and an operator restocks; who paid has it, once.

An order carries its operation's token in its address, a change its own beside it: so the store says what became of
each, also of those whose answer was lost.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Any

from ..checks.staging import MAY, MUST, MUST_NOT, Staging
from ..journal import CLIENT_BITS, Operation
from ..shop import ShopSystem, rules, stores
from ..shop.http import Answer, RequestError
from ..system import Document, PrepareError
from .workload import Checker, Client, Effect, Generator, Seen, Workload

PRODUCTS = 20
REMEMBERED = 32
MOST_PIECES = 3
DEMANDS = {"ok": MUST, "unknown": MAY, "failed": MUST_NOT}
OPEN = "open"


class ShopGenerator(Generator):
    """Mostly new orders; each client changes, cancels and looks at its own.  Client 0 first says what there was."""

    def __init__(self) -> None:
        self._mine: defaultdict[int, deque[Document]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._opened = False

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`open`, `place`, `change`, `cancel`, `look` or `restock`.

        Customers and products of `place` and `restock` are places in the lists that `open` answers.
        """
        if client == 0 and not self._opened:
            self._opened = True
            return OPEN, {}
        mine, number = self._mine[client], dice.random()
        if mine and number < 0.15:  # the newest, which may still be pending
            order = mine[-1]
            product = dice.choice(order["items"])[0]
            quantity = dice.randint(1, MOST_PIECES)
            return "change", {"id": order["id"], "op": order["op"], "version": order["version"],
                              "product": product, "quantity": quantity}  # fmt: skip
        if mine and number < 0.3:
            return "cancel", {"id": dice.choice(mine)["id"]}
        if mine and number < 0.45:
            return "look", {"id": dice.choice(mine)["id"]}
        if number < 0.5:
            return "restock", {"product": dice.randrange(PRODUCTS), "quantity": dice.randint(1, 10)}
        chosen = dice.sample(range(PRODUCTS), dice.randint(1, 2))
        items = [[product, dice.randint(1, MOST_PIECES)] for product in chosen]
        return "place", {"customer": dice.randrange(1 << 16), "items": items}

    def acknowledged(self, function: str, value: Document, result: Any) -> None:
        """Remember one's own orders, and their newest versions."""
        if function == "place":
            self._mine[result["op"] >> CLIENT_BITS].append(dict(result))
        elif function == "change" and result:
            for order in self._mine[value["op"] >> CLIENT_BITS]:
                if order["id"] == value["id"]:
                    order["version"] = result


class ShopClient(Client[ShopSystem]):
    """A customer's and an operator's requests; a POST is repeated under its key until it is answered."""

    _customers: list[str]
    _products: list[str]
    _first: dict[str, int]

    def begin(self) -> None:
        """Learn who orders what, and how many pieces there are of each product before anybody does."""
        known = self.system.stores
        self._customers, self._products = known.customers(), known.products(PRODUCTS)
        if not self._customers or len(self._products) < PRODUCTS:
            raise PrepareError(
                f"the store has no customer, or fewer than {PRODUCTS} products: seed it: `make shop` "
                "does, on Kubernetes site.yml with the shop's topology"
            )
        pieces = known.pieces()
        self._first = {product: pieces[product] for product in self._products}

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """`place` answers the order, `change` its new version, `look` [status, version]; 0 is a refusal."""
        orders = f"{self.system.place.urls['order']}/orders"
        key = f"{self.run}-{token}"
        if function == OPEN:
            return {"customers": self._customers, "products": self._products, "first": self._first}
        if function == "place":
            return self._place(orders, value, token, key)
        if function == "restock":
            product = self._products[value["product"]]
            url = f"{self.system.place.urls['inventory']}/stock/{product}/restock"
            body = {"quantity": value["quantity"]}
            self._must_be(200, self._post(url, None, key, body))
            return 1
        customer, url = value["id"].rpartition(".")[0], f"{orders}/{value['id']}"
        if function == "look":
            found = self.system.http.until_answered("GET", url, self.system.place.token(customer))
            document = self._must_be(200, found)
            return [document["status"], document["version"]]
        if function == "cancel":
            answer = self._post(f"{url}/cancel", customer, key, None)
            return 0 if answer.status == 409 else int(bool(self._must_be(200, answer)))
        return self._change(url, customer, value, token)

    def _post(self, url: str, customer: str | None, key: str, body: Any) -> Answer:
        return self.system.http.until_answered("POST", url, self.system.place.token(customer), key, body)

    def _place(self, orders: str, value: Document, token: int, key: str) -> Document:
        customer = self._customers[value["customer"] % len(self._customers)]
        items = [{"product_id": self._products[product], "quantity": quantity} for product, quantity in value["items"]]
        body = {"items": items, "address": self._address(token, "placed")}
        placed = self._must_be(201, self._post(orders, customer, key, body))
        lines = [[line["product_id"], line["quantity"]] for line in placed["items"]]
        return {"id": placed["id"], "op": token, "version": placed["version"], "items": lines}

    def _change(self, url: str, customer: str, value: Document, token: int) -> int:
        """Sent once: who cannot know whether his first request was done may not send it again with another version."""
        body = {
            "items": [{"product_id": value["product"], "quantity": value["quantity"]}],
            "address": self._address(value["op"], str(token)),
        }
        answer = self.system.http.once(
            "PATCH", url, self.system.place.token(customer), body=body, if_match=f'"{value["version"]}"'
        )
        if answer.status in (409, 412):
            return 0
        return int(self._must_be(200, answer)["version"])

    def _address(self, order: int, city: str) -> Document:
        return {"street": f"{self.run}:{order}", "postcode": "00000", "city": city, "country": "DE"}

    @staticmethod
    def _must_be(status: int, answer: Answer) -> Any:
        if answer.status != status or answer.document is None:
            raise RequestError("failed" if 400 <= answer.status < 500 else "unknown", answer.words)
        return answer.document


class ShopChecker(Checker):
    """The shop's own rules (`ledger.shop.rules`), and what the clients were answered held against them."""

    kinds = rules.KINDS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._opened: Document | None = None
        self._placed: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._cancelled: dict[str, str] = {}
        self._cities: defaultdict[str, dict[str, int | None]] = defaultdict(dict)
        """Order → token of a change → its version; None for one of which nobody knows whether it was done."""
        self._restocked: Counter[str] = Counter()
        self._perhaps: Counter[str] = Counter()

    def look_at(self, operation: Operation) -> None:
        """A client's own order is found by its next request, and never older than it was."""
        value, result = operation.value, operation.result
        if operation.function == OPEN and operation.outcome == "ok":
            self._opened = result
        elif operation.function == "restock" and self._opened is not None and operation.outcome != "failed":
            product = self._opened["products"][value["product"]]
            (self._restocked if operation.outcome == "ok" else self._perhaps)[product] += value["quantity"]
        elif operation.function == "change" and operation.outcome != "failed" and result != 0:
            self._cities[value["id"]][str(operation.token)] = result
        if operation.outcome != "ok":
            if "HTTP 404" in (operation.error or ""):
                self.found("stale", f"{value.get('id')} was acknowledged before and is not found", operation.describe())
            return
        if operation.function == "place":
            self._placed[result["id"]] = operation.describe()
        elif operation.function == "cancel" and result:
            self._cancelled[value["id"]] = operation.describe()
        version = {"place": lambda: result["version"], "change": lambda: result, "look": lambda: result[1]}
        if operation.function in version and (now := version[operation.function]()):
            id_ = result["id"] if operation.function == "place" else value["id"]
            if now < self._versions.get(id_, 0):
                words = f"{id_} had version {self._versions[id_]}, and a later look at it found {now}"
                self.found("stale", words, operation.describe())
            self._versions[id_] = max(now, self._versions.get(id_, 0))

    def expect(self, operation: Operation) -> Effect | None:
        """An order of that customer."""
        if operation.function != "place":
            return None
        customers = self._opened["customers"] if self._opened else ["?"]
        customer = customers[operation.value["customer"] % len(customers)]
        return Effect(DEMANDS[operation.outcome], f"the orders of {customer}")

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The orders of the run."""
        for order in self.documents(stores.ORDERS):
            yield order["op"], f"the orders of {order['customer']}", None

    def judge(self, staging: Staging) -> str | None:
        """The rules; cancelled is cancelled, the last change is the last, pieces add up."""
        for problem in rules.problems(self.documents):
            shown = self._placed.get(problem.order)
            self.found(problem.kind, problem.detail, *([shown] if shown else []))
        statuses: Counter[str] = Counter()
        for order in self.documents(stores.ORDERS):
            statuses[order["status"]] += 1
            self._judge_answers(order)
        balanced = self._judge_pieces()
        counts = self.verdict.counts
        self.verdict.figures[self.workload] = {
            "accepted": len(self._placed),
            **{status: statuses[status] for status in (rules.CONFIRMED, rules.CANCELLED)},
            **{name: counts[name] for name in ("lost", "charged-twice", "oversold")},
        }
        words = ", ".join(f"{number:,} {status}" for status, number in sorted(statuses.items()))
        return f"{len(self._placed):,} orders were accepted ({words or 'none is there'}); {balanced}"

    def _judge_answers(self, order: Document) -> None:
        id_ = order["_id"]
        if id_ in self._cancelled and order["status"] != rules.CANCELLED:
            self.found("lost", f"{id_} was cancelled and is {order['status']}", self._cancelled[id_])
        if order["version"] < self._versions.get(id_, 0):
            self.found("lost", f"{id_} had version {self._versions[id_]} and has {order['version']}")
        changes = self._cities[id_]
        sure = {city: version for city, version in changes.items() if version is not None}
        last = max(sure, key=lambda city: sure[city], default="placed")
        if order["city"] != last and order["city"] not in set(changes) - set(sure):
            words = f"{id_} was changed last by {last}, and its address says {order['city']}"
            self.found("lost" if sure else "phantom", words)

    def _judge_pieces(self) -> str:
        if self._opened is None:
            return "how many pieces there were before is not in the journal, so they were not counted"
        now = {one["_id"]: one["available"] + one["held"] for one in self.documents(stores.STOCK)}
        for product, first in self._opened["first"].items():
            least = first + self._restocked[product]
            if product in now and not least <= now[product] <= least + self._perhaps[product]:
                words = f"product {product} had {first} pieces and got {self._restocked[product]},"
                words += f" but stock and orders have {now[product]}"
                more = now[product] > least
                self.found("oversold", words + ": put back twice, or restocked by another than this run" * more)
        return f"{len(self._opened['first'])} products have the pieces they must have"


WORKLOAD = Workload(
    name="shop",
    system=ShopSystem,
    collections=dict.fromkeys(stores.KINDS),
    generator=ShopGenerator,
    client=ShopClient,
    checker=ShopChecker,
    writes=frozenset({"place", "change", "cancel", "restock"}),
    by_name_only=True,
)
