"""Documents are a function of seed and position, and look like those of a shop."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmart.declare import data_model
from shardmart.loader.batches import batches
from shardmart.loader.generation import pools
from shardmart.loader.generation.catalogue import CATEGORIES, weights
from shardmart.loader.generation.dataset import COLLECTIONS, Counts, DataSet, Document
from shardmart.loader.generation.people import FIRST_DAY_MS, LAST_DAY_MS

REGIONS = data_model.load().regions


def data_set(seed: int = 7, zipf: str = "1.0", known_products: int = 0, **counts: int) -> DataSet:
    sizes = {"users": 200, "orders_per_user": 5, "products": 50} | counts
    return DataSet(seed, Counts(**sizes), Decimal(zipf), REGIONS, known_products=known_products)


def everything(made: DataSet, collection: str) -> list[Document]:
    return list(made.documents(collection, 0, made.counts.of(collection)))


def digest(made: DataSet, collection: str, size: int) -> str:
    state = hashlib.sha256()
    for batch in batches(made.counts, collection, size):
        for document in made.documents(collection, batch.start, batch.stop):
            state.update(bson.encode(document))
    return state.hexdigest()


# What the first landing made. A change here means that databases loaded before cannot be resumed any more.
GOLDEN = {
    "users": "68f22ca9b55136aae041e2b1b39b24342106eff923b8ba7d079450277a641a99",
    "products": "01c8c483f8923749dc1ce6463bf19fb5e7c256643a9322c511cb7ee5059ef0be",
    "orders": "081560d7138209bd710a11a4644a973922db100fb5ba88c6aef045da4906e63a",
}


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_documents_are_the_same_to_the_byte_everywhere_and_in_any_batches(collection: str, size: int) -> None:
    assert digest(data_set(zipf="1.07"), collection, size) == GOLDEN[collection]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_another_seed_makes_other_documents(collection: str) -> None:
    ours, theirs = everything(data_set(7), collection), everything(data_set(8), collection)
    assert not {d["_id"] for d in ours} & {d["_id"] for d in theirs}
    assert sum({**a, "_id": 0} == {**b, "_id": 0} for a, b in zip(ours, theirs, strict=True)) == 0


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_documents_come_in_the_order_of_their_identifiers(collection: str) -> None:
    identifiers = [d["_id"] for d in everything(data_set(), collection)]
    assert all(a < b for a, b in pairwise(identifiers))


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_the_identifier_of_a_position_is_that_of_its_document(collection: str) -> None:
    made = data_set()
    for position, document in enumerate(everything(made, collection)):
        assert made.identifier(collection, position) == document["_id"]


def test_more_users_and_orders_leave_those_there_were_as_they_are() -> None:
    fewer, more = data_set(users=20, orders_per_user=3), data_set(users=31, orders_per_user=4)
    grown = {d["_id"]: d for c in COLLECTIONS for d in everything(more, c)}
    for collection in COLLECTIONS:
        for document in everything(fewer, collection):
            assert grown[document["_id"]] == document


def test_an_order_totals_its_lines() -> None:
    for order in everything(data_set(), "orders"):
        assert order["total_cents"] == sum(i["quantity"] * i["unit_price_cents"] for i in order["items"])
        assert len({i["product_id"] for i in order["items"]}) == len(order["items"]) > 0


def test_an_order_charges_what_the_catalogue_says() -> None:
    made = data_set()
    prices = {p["_id"]: p["price_cents"] for p in everything(made, "products")}
    assert all(i["unit_price_cents"] == prices[i["product_id"]] for o in everything(made, "orders") for i in o["items"])


def test_orders_follow_their_users_creation_in_their_users_region() -> None:
    made = data_set()
    users = {u["_id"]: u for u in everything(made, "users")}
    for order in everything(made, "orders"):
        user = users[order["user_id"]]
        assert int(user["created_at"]) <= int(order["created_at"]) < LAST_DAY_MS
        assert order["region"] == user["region"]
        assert int(user["created_at"]) >= FIRST_DAY_MS


def test_recent_orders_are_on_their_way_and_old_ones_settled() -> None:
    orders = everything(data_set(users=2000), "orders")
    two_weeks = 14 * 86_400_000
    for order in orders:
        if LAST_DAY_MS - int(order["created_at"]) > two_weeks:
            assert order["status"] in {"delivered", "cancelled", "returned"}
    assert {"pending", "paid", "shipped"} <= {o["status"] for o in orders}


def test_every_region_has_its_share_of_even_ten_users() -> None:
    for seed in range(50):
        shares = Counter(u["region"] for u in everything(data_set(seed, users=10), "users"))
        assert set(shares) == set(REGIONS)
        assert max(shares.values()) - min(shares.values()) <= 2


def test_addresses_are_in_a_country_of_the_region() -> None:
    countries = {r: {locale.country for locale in ls} for r, ls in pools.load().locales.items()}
    seen = Counter()
    for user in everything(data_set(users=2000), "users"):
        assert user["address"]["country"] in countries[user["region"]]
        assert user["email"].endswith(f".{user['address']['country'].lower()}.example")
        seen[user["address"]["country"]] += 1
    assert len(seen) == 12
    assert min(seen.values()) > 100


def test_mail_addresses_are_unique_and_reach_nobody() -> None:
    mails = [u["email"] for u in everything(data_set(users=5000), "users")]
    assert len(set(mails)) == len(mails)
    assert all(re.fullmatch(r"[a-z0-9.]+@[a-z0-9]+\.[a-z]{2}\.example", mail) for mail in mails)


def test_japanese_names_are_written_family_name_first_and_in_mail_in_latin_letters() -> None:
    japanese = [u for u in everything(data_set(users=500), "users") if u["address"]["country"] == "JP"]
    assert japanese
    for user in japanese:
        assert not user["name"].isascii()
        assert user["email"].isascii()


def test_prices_are_within_what_their_category_costs() -> None:
    ranges = {name: (low // 100 * 100, high // 100 * 100 + 99) for name, low, high, _ in CATEGORIES}
    products = everything(data_set(products=3000), "products")
    for product in products:
        low, high = ranges[product["category"]]
        assert low <= product["price_cents"] <= high
        assert isinstance(product["price_cents"], int)
    assert len({p["category"] for p in products}) == len(CATEGORIES)


def sold(made: DataSet) -> Counter[Any]:
    return Counter(i["product_id"] for o in everything(made, "orders") for i in o["items"])


def test_popularity_follows_zipf() -> None:
    pieces = Counter[Any]()
    for order in everything(data_set(users=4000), "orders"):
        for item in order["items"]:
            pieces[item["product_id"]] += item["quantity"]
    ranked = [pieces[p["_id"]] for p in everything(data_set(), "products")]
    harmonic = sum(1 / rank for rank in range(1, 51))
    for rank in (1, 2, 5, 20):
        assert ranked[rank - 1] / sum(ranked) == pytest.approx(1 / rank / harmonic, rel=0.1)


def test_exponent_zero_sells_all_articles_alike_and_two_is_steeper_than_one() -> None:
    flat, shop, steep = (sold(data_set(users=2000, zipf=z)) for z in ("0", "1.0", "2.0"))
    assert max(flat.values()) < 1.3 * min(flat.values())
    assert max(shop.values()) / shop.total() < max(steep.values()) / steep.total()


def test_weights_with_a_fraction_agree_with_floating_point() -> None:
    for rank, weight in enumerate(weights(500, Decimal("1.07")), start=1):
        assert weight / 2**40 == pytest.approx(rank**-1.07, rel=1e-8)


@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.integers(1, 60),
    now=st.integers(1, 60),
    zipf=st.sampled_from(["0", "0.8", "1.0", "2.0"]),
)
def test_an_order_made_from_another_catalogue_size_is_recognised(seed: int, before: int, now: int, zipf: str) -> None:
    earlier = data_set(seed, zipf, users=3, products=before)
    later = data_set(seed, zipf, users=3, products=now, known_products=before)
    for order in everything(earlier, "orders"):
        assert later.order_of_any_catalogue(order) == order


def test_an_order_no_catalogue_size_makes_is_not_recognised() -> None:
    made = data_set()
    orders = everything(made, "orders")
    for order in orders[:50]:
        for tampered in (
            order | {"total_cents": order["total_cents"] + 1},
            order | {"items": [*order["items"], order["items"][0]]},
            order | {"items": [{**order["items"][0], "quantity": 9}]},
        ):
            assert made.order_of_any_catalogue(tampered) != tampered
