"""Claims of the catalogue merged from PostgreSQL, MongoDB and Redis: filled once, whole, and never waited for."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from shardmart.platforms.embedded_shop import configuration
from tests.support.polyglot import Polyglot
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
PARTS = {"products": ("name", "price"), "metadata": ("metadata",), "stock": ("stock",)}
HEADER = "Catalogue-Missing"


@pytest.fixture
def seeded(sources: Polyglot) -> Polyglot:
    """The sources are there and filled, and the catalogue runs."""
    for source in PARTS:
        sources.start(source)
    if not sources.filled:
        sources.seed()
    if sources.instance.process is None or sources.instance.process.poll() is not None:
        sources.instance.start()
    wait_until(sources.instance.is_ready, "the catalogue to be ready")
    whole(sources)
    return sources


def whole(sources: Polyglot) -> list[dict[str, Any]]:
    """The answer once no part of it is missing."""

    def look() -> list[dict[str, Any]] | None:
        answer = sources.get()
        return answer.json() if answer.status_code == 200 and HEADER not in answer.headers else None

    found: list[dict[str, Any]] = wait_until(look, "an answer with every part")
    return found


def metric(sources: Polyglot, name: str, source: str) -> float:
    found = re.search(rf'^{name}{{source="{source}"}} (\S+)$', sources.get("/metrics").text, re.MULTILINE)
    assert found, f"no {name} of {source}"
    return float(found[1])


def test_a_seeder_that_is_killed_is_finished_by_the_next_and_a_further_one_changes_nothing(sources: Polyglot) -> None:
    killed = subprocess.Popen(sources.seed_command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    # The first batch is in one source at least, the last in none.
    with sources.cluster.client() as client:
        metas = client["ecommerce"]["productmetas"]
        wait_until(lambda: metas.find_one() or killed.poll() is not None, "the seeder to write")
    killed.kill()
    killed.wait(10)

    sources.seed()
    rows, metadata, stocks = sources.contents()
    with sources.cluster.client() as client:
        products = list(client["ecommerce"]["products"].find().sort("_id", 1))
    assert len(products) == 1200
    expected = [(str(p["_id"]), p["name"], p["category"], p["price_cents"]) for p in products]
    assert rows == expected
    assert [meta["_id"] for meta in metadata] == [product["_id"] for product in products]
    assert stocks == {f"stock:{p['_id']}": str(p["stock"]) for p in products} | {
        f"stock-version:{p['_id']}": "0" for p in products
    }

    again = sources.seed()
    assert again == {"read": 1200, "metadata": 0, "products": 0, "stock": 0, "changes": 0}
    assert sources.contents() == (rows, metadata, stocks)


def test_what_was_sold_or_changed_is_not_overwritten_by_the_seeder(seeded: Polyglot) -> None:
    id_ = whole(seeded)[0]["id"]
    with seeded.redis() as client, seeded.sql() as connection:
        client.mset({f"stock:{id_}": 3, f"stock-version:{id_}": 7})
        connection.execute("UPDATE products SET price_cents = 120000 WHERE id = %s", [id_])
        connection.commit()
    assert seeded.seed()["changes"] == 0
    product = whole(seeded)[0]
    assert (product["price"], product["stock"]) == ("1200", "3")


def test_one_answer_has_the_parts_of_all_three(seeded: Polyglot) -> None:
    rows, metadata, stocks = seeded.contents()
    expected = [
        {
            "id": row[0],
            "name": row[1],
            "price": f"{row[3] / 100:.2f}".removesuffix(".00"),
            "metadata": {key: meta[key] for key in ("description", "tags", "specifications")},
            "stock": stocks[f"stock:{row[0]}"],
        }
        for row, meta in zip(rows, metadata, strict=True)
    ]
    assert whole(seeded) == expected[:5]
    assert seeded.get(f"/api/products/{rows[7][0]}").json() == expected[7]

    found, path = [], "/api/products?limit=100"
    while path:
        answer = seeded.get(path)
        found += answer.json()
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert found == expected, "pages follow one another without a gap"

    word, category = rows[3][1].split()[0].lower(), rows[3][2]
    wanted = [p for p, row in zip(expected, rows, strict=True) if word in row[1].lower() and row[2] == category]
    assert seeded.get(f"/api/products?limit=100&q={word}&category={category}").json() == wanted[:100]
    assert seeded.get("/api/products?q=%25").json() == [], "a percent sign is a letter like others"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("source", list(PARTS))
def test_a_source_that_is_away_leaves_its_part_null_and_comes_back(
    seeded: Polyglot, source: str, number: signal.Signals
) -> None:
    before = whole(seeded)
    missed = metric(seeded, "shop_source_missing_total", source)
    seeded.signal(source, number)
    try:
        # The source says nothing all the while, and is waited for by nobody.
        for answer in [seeded.get() for _ in range(6)]:
            assert answer.status_code == 200, answer.text
            assert answer.headers[HEADER] == source
            for product, whole_one in zip(answer.json(), before, strict=True):
                assert product == whole_one | dict.fromkeys(PARTS[source])
        assert metric(seeded, "shop_source_missing_total", source) >= missed + 6
        assert seeded.get("/readyz").status_code == 200, "who serves two parts of three is not taken out"
        one = seeded.get(f"/api/products/{before[0]['id']}")
        assert (one.json(), one.headers[HEADER]) == (before[0] | dict.fromkeys(PARTS[source]), source)
    finally:
        if number == signal.SIGSTOP:
            seeded.signal(source, signal.SIGCONT)
        else:
            seeded.start(source)
    assert whole(seeded) == before
    assert metric(seeded, "shop_source_circuit", source) == 0


def test_without_products_and_metadata_there_is_no_answer(seeded: Polyglot) -> None:
    seeded.signal("products", signal.SIGSTOP)
    seeded.signal("metadata", signal.SIGSTOP)
    try:
        answer = seeded.get()
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
        wait_until(lambda: seeded.get("/readyz").status_code == 503, "the instance to say that it cannot serve")
    finally:
        seeded.signal("products", signal.SIGCONT)
        seeded.signal("metadata", signal.SIGCONT)
    whole(seeded)


def test_an_emptied_redis_is_named_although_it_answers(seeded: Polyglot) -> None:
    with seeded.redis() as client:
        client.delete(*client.scan_iter("stock*"))
    answer = seeded.get()
    assert answer.headers[HEADER] == "stock"
    assert {product["stock"] for product in answer.json()} == {None}
    assert seeded.seed()["stock"] == 1200
    whole(seeded)


def test_the_catalogue_may_read_two_tables_and_nothing_else(seeded: Polyglot) -> None:
    user, name = "shop_catalogue", configuration.CATALOGUE_POSTGRES
    for statement in ("DELETE FROM products", "CREATE TABLE mine (a int)"):
        with seeded.sql(user, name) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.commit()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    with pytest.raises(psycopg.OperationalError, match="password"):
        seeded.sql(user, "shop-postgres")
    with pytest.raises(psycopg.OperationalError, match="password"):
        seeded.sql("postgres", name)


def test_the_printed_command_lines_look_into_each_source(seeded: Polyglot) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "shardmart.shop", "sources", "--json"),
            *("--config", str(seeded.config), "--secrets", str(seeded.secrets)),
        ],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    looked = {one["source"]: one for one in json.loads(done.stdout)}
    assert {source: one["products"] for source, one in looked.items()} == dict.fromkeys(PARTS, 1200)
    product = whole(seeded)[0]
    assert looked["products"]["example"]["name"] == product["name"]
    assert looked["metadata"]["example"]["description"] == product["metadata"]["description"]
    assert str(looked["stock"]["example"]) == product["stock"]
    secrets = [file.read_text().strip() for file in seeded.secrets.iterdir()]
    assert [secret for secret in secrets if secret in done.stdout] == []
    psql = subprocess.run(["bash", "-c", looked["products"]["command"]], capture_output=True, text=True, check=False)
    assert psql.returncode == 0, psql.stderr
    assert product["name"] in psql.stdout
