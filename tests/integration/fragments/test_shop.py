"""Claims of the shop that hold on both stores alike: the same operations, the same refusals, nothing half done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from shardmart.errors import BadUseError, RefusedError
from shardmart.fragments import cli, money
from shardmart.fragments.configuration import Configuration
from shardmart.fragments.money import PriceError
from shardmart.fragments.mongodb import aggregations
from shardmart.fragments.mongodb.connection import database
from shardmart.fragments.mongodb.seeding import insert_random_data as seed_mongodb
from shardmart.fragments.mongodb.shop import MongoShop
from shardmart.fragments.relational import verification
from shardmart.fragments.relational.seeding import insert_random_data as seed_relational
from shardmart.fragments.relational.shop import RelationalShop
from shardmart.fragments.rows import Shop
from shardmart.fragments.store import Row, Store
from tests.support.both_stores import COUNTS, both_stores, person, prepared_then_committed
from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.region_nodes import REGIONS, RegionNodes

STORES = ("postgres", "mongodb")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def configuration(nodes: RegionNodes, cluster: EmbeddedCluster) -> Configuration:
    return both_stores(nodes, cluster)


@pytest.fixture(params=STORES)
def shop(request: pytest.FixtureRequest, configuration: Configuration) -> Iterator[Store]:
    opened: Store = RelationalShop(configuration) if request.param == "postgres" else MongoShop.connect(configuration)
    yield opened
    opened.close()


def refusal(what: str) -> str:
    return f"{what}.*nothing was changed"


def test_both_stores_hold_the_same_shop(configuration: Configuration) -> None:
    relational, mongodb = RelationalShop(configuration), MongoShop.connect(configuration)
    rows = Shop(1, COUNTS, REGIONS)
    assert relational.products_between("10.00", "501.00") == mongodb.products_between("10.00", "501.00")
    assert len(relational.products_between("10.00", "501.00")) == len(rows.products())
    for batch in rows.batches(1000):
        for customer in batch.customers:
            key = customer["region"], customer["customer_id"]
            assert relational.customer(*key) == mongodb.customer(*key) == customer
        for order in batch.orders:
            found = relational.order(order["region"], order["order_id"])
            assert found == mongodb.order(order["region"], order["order_id"])
            assert found
            assert order.items() <= found.items()
    mongodb.close()


def test_seeding_twice_writes_nothing(configuration: Configuration) -> None:
    assert seed_relational(configuration, Shop(1, COUNTS, REGIONS)).changes == []
    assert seed_mongodb(configuration, Shop(1, COUNTS, REGIONS)) == []


@pytest.mark.full
def test_what_was_deleted_after_a_seeding_is_not_brought_back_by_the_next(configuration: Configuration) -> None:
    """Two customers more, without orders: they can be deleted."""
    more = Shop(1, replace(COUNTS, users=COUNTS.users + 2, orders_per_user=0), REGIONS)
    assert seed_relational(configuration, more).changes == ["customer: 2 rows"]
    assert seed_mongodb(configuration, more) == ["customers: 2 documents"]
    [batch] = more.batches(1000)
    gone, product = batch.customers[-1], more.products()[-1]
    for store in (RelationalShop(configuration), MongoShop.connect(configuration)):
        store.delete_customer(gone["region"], gone["customer_id"])
        store.delete_product(product["product_id"])
        for shop in (more, Shop(1, COUNTS, REGIONS)):
            assert seed_relational(configuration, shop).changes == []
            assert seed_mongodb(configuration, shop) == []
        assert store.customer(gone["region"], gone["customer_id"]) is None
        assert store.product(product["product_id"]) is None
        store.create_product(**{key: product[key] for key in ("product_id", "name", "category", "stock")},
                             price=money.text(product["price_cents"]))  # fmt: skip
        store.close()


WRONG: dict[str, Callable[[Store], object]] = {
    "a nameless product": lambda shop: shop.create_product("odd", "", "Home", "20.00", 1),
    "a product without an id": lambda shop: shop.create_product("", "Kettle", "Home", "20.00", 1),
    "a byte that is no text": lambda shop: shop.create_product("odd", "Ket\0tle", "Home", "20.00", 1),
    "less than nothing": lambda shop: shop.create_product("odd", "Kettle", "Home", "20.00", -1),
    "more than there can be": lambda shop: shop.create_product("odd", "Kettle", "Home", "20.00", 2**31),
    "a nameless customer": lambda shop: shop.create_customer(person("APJ", "odd", "")),
    "a country in small letters": lambda shop: shop.create_customer(person("APJ", "odd") | {"country": "it"}),
    "a name that is taken away": lambda shop: shop.rename_customer("APJ", "odd-one", ""),
    "a move to where the id is": lambda shop: shop.move_customer("APJ", "odd-one", "LATAM"),
    "a way to pay": lambda shop: shop.place_order("APJ", "odd-one", {"odd": 1}, "barter"),
    "too many pieces": lambda shop: shop.place_order("APJ", "odd-one", {"odd": 2**31}),
}


@pytest.mark.full
@pytest.mark.parametrize("what", WRONG)
def test_both_stores_refuse_the_same_in_the_same_words(configuration: Configuration, what: str) -> None:
    said = []
    for shop in (RelationalShop(configuration), MongoShop.connect(configuration)):
        for region in ("APJ", "LATAM"):  # on two shards: one shard of MongoDB holds an _id once
            if not shop.customer(region, "odd-one"):
                shop.create_customer(person(region, "odd-one"))
        with pytest.raises(RefusedError, match="nothing was changed") as refused:
            WRONG[what](shop)
        assert shop.customer("APJ", "odd-one") == person("APJ", "odd-one")
        assert (shop.product("odd"), shop.customer("APJ", "odd")) == (None, None)
        said.append(str(refused.value))
        shop.close()
    assert said[0] == said[1]


WRONG_PRICES = ["NaN", None, "9.995", "\uff11\uff12", "-1.00", 9.99, "9.99", "501.00", "Infinity", "1e2", "", True]


@pytest.mark.parametrize("price", WRONG_PRICES)
def test_a_wrong_price_is_refused_by_name_in_the_same_words_on_both_stores(
    configuration: Configuration, price: object
) -> None:
    said = []
    for shop in (RelationalShop(configuration), MongoShop.connect(configuration)):
        with pytest.raises(PriceError, match=r"^Blue Kettle: ") as created:
            shop.create_product("wrong", "Blue Kettle", "Home", price, 1)
        assert shop.product("wrong") is None
        kept = shop.create_product("priced", "Red Kettle", "Home", "20.00", 1)
        with pytest.raises(PriceError, match=r"^Red Kettle: ") as changed:
            shop.change_price("priced", price)
        assert shop.product("priced") == kept
        shop.delete_product("priced")
        said.append((str(created.value), str(changed.value)))
        shop.close()
    assert said[0] == said[1]


def test_a_product_lives_and_moves_from_band_to_band(shop: Store) -> None:
    made = shop.create_product("mover", "Kettle", "Home", "100.99", 4)
    assert shop.product("mover") == made
    with pytest.raises(RefusedError, match=refusal("product 'mover' is there already")):
        shop.create_product("mover", "Kettle", "Home", "300.00", 4)
    for price, cents in (("50.00", 5000), ("101.00", 10100), ("500.99", 50099), ("10.00", 1000)):
        assert shop.change_price("mover", price) == made | {"price_cents": cents}
        assert shop.product("mover") == made | {"price_cents": cents}
        here = [row for row in shop.products_between("10.00", "501.00") if row["product_id"] == "mover"]
        assert here == [made | {"price_cents": cents}]
    with pytest.raises(PriceError):
        shop.change_price("mover", "501.00")
    assert shop.product("mover") == made | {"price_cents": 1000}
    shop.delete_product("mover")
    assert shop.product("mover") is None
    with pytest.raises(RefusedError, match=refusal("no product 'mover'")):
        shop.change_price("mover", "20.00")


def test_where_a_router_refuses_to_move_a_document_it_is_deleted_and_inserted_in_one_transaction(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = MongoShop.connect(configuration)
    made = shop.create_product("refused-move", "Kettle", "Home", "50.00", 4)
    transaction = shop._transaction
    refused: list[object] = []

    def refusing(work: Callable[[ClientSession], None]) -> None:
        """The router of another version, for the first transaction."""
        if not refused:
            refused.append(work)
            raise OperationFailure("Document shard key value updates that cause the doc to move shards", code=283)
        transaction(work)

    monkeypatch.setattr(shop, "_transaction", refusing)
    assert shop.change_price("refused-move", "300.00") == made | {"price_cents": 30000}
    assert len(refused) == 1
    found = [row for row in shop.products_between("10.00", "501.00") if row["product_id"] == "refused-move"]
    assert found == [made | {"price_cents": 30000}]

    # Killed between the deletion and the commit it is where it was, and in no second place.
    def dying(work: Callable[[ClientSession], None]) -> None:
        if len(refused) == 1:
            refused.append(work)
            raise OperationFailure("Document shard key value updates that cause the doc to move shards", code=283)

        def cut_short(session: ClientSession) -> None:
            work(session)
            raise RuntimeError("died")

        transaction(cut_short)

    monkeypatch.setattr(shop, "_transaction", dying)
    with pytest.raises(RuntimeError, match="died"):
        shop.change_price("refused-move", "50.00")
    monkeypatch.undo()
    found = [row for row in shop.products_between("10.00", "501.00") if row["product_id"] == "refused-move"]
    assert found == [made | {"price_cents": 30000}]
    shop.delete_product("refused-move")
    shop.close()


def test_mongodb_does_in_one_transaction_over_both_shards_what_touches_both(
    configuration: Configuration, cluster: EmbeddedCluster
) -> None:
    shop = MongoShop.connect(configuration)
    shop.create_customer(person("APJ", "two-shards"))
    shop.create_product("two-shards", "Kettle", "Home", "400.00", 9)
    steps: dict[str, Callable[[], object]] = {
        "an order of a customer in APJ takes stock in LATAM": lambda: shop.place_order(
            "APJ", "two-shards", {"two-shards": 1}
        ),
        "a product changes from LATAM's band to APJ's": lambda: shop.change_price("two-shards", "20.00"),
        "a customer moves from APJ to LATAM": lambda: shop.move_customer("APJ", "two-shards", "LATAM"),
    }
    for what, do in steps.items():
        before = prepared_then_committed(cluster)
        do()
        after = prepared_then_committed(cluster)
        assert all(after[name] > before[name] for name in before), f"{what}: {before}, {after}"
    shop.close()


def test_an_order_takes_stock_wherever_the_products_are(shop: Store) -> None:
    shop.create_customer(person("EMEA", "buyer"))
    for name, price in (("cheap", "20.00"), ("middle", "120.00"), ("dear", "400.00")):
        shop.create_product(name, name, "Home", price, 5)
    placed = shop.place_order("EMEA", "buyer", {"cheap": 1, "middle": 2, "dear": 3})
    assert placed["total_cents"] == 2000 + 2 * 12000 + 3 * 40000
    found = shop.order("EMEA", placed["order_id"])
    assert found
    assert {line["product_id"]: line["quantity"] for line in found["items"]} == {"cheap": 1, "middle": 2, "dear": 3}
    assert [payment["amount_cents"] for payment in found["payments"]] == [placed["total_cents"]]
    assert [shipment["customer_name"] for shipment in found["shipments"]] == ["Ada Lovelace"]
    stock = {name: (shop.product(name) or {})["stock"] for name in ("cheap", "middle", "dear")}
    assert stock == {"cheap": 4, "middle": 3, "dear": 2}

    with pytest.raises(RefusedError, match=refusal("product 'dear': 3 wanted, 2 left")):
        shop.place_order("EMEA", "buyer", {"cheap": 1, "dear": 3})
    assert {name: (shop.product(name) or {})["stock"] for name in ("cheap", "middle", "dear")} == stock
    for items in ({}, {"cheap": 0}, {"cheap": -1}):
        with pytest.raises(RefusedError, match=refusal("at least one piece")):
            shop.place_order("EMEA", "buyer", items)
    with pytest.raises(RefusedError, match=refusal("no customer 'nobody' in region EMEA")):
        shop.place_order("EMEA", "nobody", {"cheap": 1})
    with pytest.raises(BadUseError, match="no node 'MARS'"):
        shop.place_order("MARS", "buyer", {"cheap": 1})
    with pytest.raises(RefusedError, match=refusal("customer 'buyer' has orders")):
        shop.delete_customer("EMEA", "buyer")


def test_buyers_at_one_time_never_sell_more_than_there_is(shop: Store) -> None:
    shop.create_customer(person("APJ", "crowd"))
    shop.create_product("rare", "Rare", "Home", "300.00", 3)

    def buy(_: int) -> bool:
        try:
            shop.place_order("APJ", "crowd", {"rare": 1})
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        sold = sum(pool.map(buy, range(8)))
    left = (shop.product("rare") or {})["stock"]
    assert sold + left == 3
    assert left == 0


def test_a_customer_moves_with_all_that_is_his(shop: Store) -> None:
    shop.create_customer(person("APJ", "nomad"))
    shop.create_product("souvenir", "Souvenir", "Toys", "12.00", 9)
    order = shop.place_order("APJ", "nomad", {"souvenir": 2})
    before = shop.order("APJ", order["order_id"])
    moved = shop.move_customer("APJ", "nomad", "LATAM")
    assert moved == person("LATAM", "nomad")
    assert shop.customer("APJ", "nomad") is None
    assert shop.customer("LATAM", "nomad") == moved
    assert shop.order("APJ", order["order_id"]) is None
    assert shop.order("LATAM", order["order_id"]) == (before or {}) | {"region": "LATAM"}
    assert shop.move_customer("LATAM", "nomad", "APJ") == person("APJ", "nomad"), "and back again"
    with pytest.raises(RefusedError, match=refusal("no customer 'nomad' in region LATAM")):
        shop.move_customer("LATAM", "nomad", "EMEA")


def test_a_customer_is_renamed_found_and_deleted(shop: Store) -> None:
    shop.create_customer(person("LATAM", "named", "Zoë Ångström"))
    with pytest.raises(RefusedError, match=refusal("customer 'named' is there already")):
        shop.create_customer(person("LATAM", "named"))
    assert shop.rename_customer("LATAM", "named", "Zora Neale")["customer_name"] == "Zora Neale"
    assert shop.customer("LATAM", "named") == person("LATAM", "named", "Zora Neale")
    assert ("LATAM", "Zora Neale") in shop.names("LATAM", "Zor")
    assert shop.names("APJ", "Zor") == []
    shop.delete_customer("LATAM", "named")
    assert shop.customer("LATAM", "named") is None
    with pytest.raises(RefusedError, match=refusal("no customer 'named' in region LATAM")):
        shop.rename_customer("LATAM", "named", "Nobody")


def test_the_relational_store_is_whole_after_all_of_it(configuration: Configuration) -> None:
    assert verification.verify(configuration)[1] == []


def test_a_price_asks_the_shards_of_its_zone_and_no_price_asks_all(configuration: Configuration) -> None:
    mongodb = MongoShop.connect(configuration)
    shop = database(mongodb._client)
    one, other = {"shard1ReplSet"}, {"shard2ReplSet"}
    assert aggregations.shards_of(shop, "products", {"price_cents": 1999}) == one
    assert aggregations.shards_of(shop, "products", {"price_cents": 49900}) == other
    assert aggregations.shards_of(shop, "products", {"price_cents": {"$in": [1999, 49900]}}) == one | other
    assert aggregations.shards_of(shop, "products", {"category": "Books"}) == one | other
    mongodb.close()


def test_aggregations_with_a_region_are_targeted_and_without_are_not(configuration: Configuration) -> None:
    mongodb = MongoShop.connect(configuration)
    shop = database(mongodb._client)
    asked = {
        (kind, region): aggregations.shards_of(shop, "customers", pipeline)
        for region in ("APJ", "LATAM", None)
        for kind, pipeline in (
            ("location", aggregations.customers_detail_location(region)),
            ("name", aggregations.customers_detail_name("Ada", region)),
        )
    }
    for kind in ("location", "name"):
        assert asked[kind, "APJ"] == {"shard1ReplSet"}
        assert asked[kind, "LATAM"] == {"shard2ReplSet"}
        assert asked[kind, None] == {"shard1ReplSet", "shard2ReplSet"}
    mongodb.close()


@pytest.mark.full
@pytest.mark.parametrize(
    ("query", "shards"),
    [
        ('{"find": "products", "filter": {"price_cents": 49900}}', ["shard2ReplSet"]),
        ('{"find": "products"}', ["shard1ReplSet", "shard2ReplSet"]),
        ('{"aggregate": "customers", "pipeline": [{"$match": {"region": "APJ"}}]}', ["shard1ReplSet"]),
    ],
)
def test_explain_says_which_shards_mongodb_asks(
    configuration: Configuration, nodes: RegionNodes, capsys: pytest.CaptureFixture[str], query: str, shards: list[str]
) -> None:
    assert configuration.mongodb
    file = nodes.folder / "both.json"
    file.write_text(json.dumps(json.loads(nodes.file.read_text()) | {"mongodb": {"address": configuration.mongodb[0]}}))
    assert cli.main(["explain", "--store=mongodb", "--json", f"--configuration={file}", query]) == 0
    assert json.loads(capsys.readouterr().out) == {"shards": shards}


def test_aggregations_say_what_the_relational_store_says(configuration: Configuration) -> None:
    from shardmart.fragments.relational import details

    mongodb = MongoShop.connect(configuration)
    shop = database(mongodb._client)
    for region in ("APJ", "EMEA", "LATAM"):
        here = aggregations.get_customers_detail_location(shop, region)
        mine = [row for row in here if row["city"] != "Rome"]  # Rome is where the tests' own customers live
        theirs = [row for row in details.get_customers_detail_location(configuration, region) if row["city"] != "Rome"]
        assert mine == theirs
        assert mine
    someone = next(iter(Shop(1, COUNTS, REGIONS).batches(1000))).customers[0]
    name, region = someone["customer_name"], someone["region"]
    here = aggregations.get_customers_detail_name(shop, name, region)
    assert here == details.get_customers_detail_name(configuration, name, region)
    assert [row["customer_id"] for row in here] == [someone["customer_id"]]
    assert aggregations.get_customers_detail_name(shop, name) == details.get_customers_detail_name(configuration, name)
    mongodb.close()


def test_of_many_who_create_one_product_in_three_bands_one_wins_and_the_others_are_refused_by_name(
    shop: Store, request: pytest.FixtureRequest
) -> None:
    product = f"twin-{request.node.callspec.id}"
    prices = ["20.00", "120.00", "300.00"] * 2

    def create(price: str) -> Row | str:
        try:
            return shop.create_product(product, "Kettle", "Home", price, 1)
        except RefusedError as refused:
            return str(refused)

    with ThreadPoolExecutor(len(prices)) as pool:
        answers = list(pool.map(create, prices))
    won = [answer for answer in answers if not isinstance(answer, str)]
    assert len(won) == 1
    assert [said for said in answers if isinstance(said, str) and not said.startswith(f"product '{product}' ")] == []
    found = [row for row in shop.products_between("10.00", "501.00") if row["product_id"] == product]
    assert found == won
    shop.delete_product(product)
