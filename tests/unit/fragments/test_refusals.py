"""Claims of what is refused, or said to be unknown, before or although no store answers: here none does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pymongo import MongoClient

from shardmart.errors import BadUseError
from shardmart.fragments import cli, configuration
from shardmart.fragments.mongodb.shop import MongoShop
from shardmart.fragments.relational.shop import RelationalShop
from shardmart.fragments.store import Store
from tests.support.clusters import free_ports

REGIONS = ("APJ", "EMEA", "LATAM")
OF_A_REGION: dict[str, Callable[[Store], object]] = {
    "customer": lambda shop: shop.customer("MARS", "c"),
    "create_customer": lambda shop: shop.create_customer({"region": "MARS", "customer_id": "c"}),
    "rename_customer": lambda shop: shop.rename_customer("MARS", "c", "Ada"),
    "move_customer": lambda shop: shop.move_customer("MARS", "c", "APJ"),
    "move_customer, to": lambda shop: shop.move_customer("APJ", "c", "MARS"),
    "delete_customer": lambda shop: shop.delete_customer("MARS", "c"),
    "place_order": lambda shop: shop.place_order("MARS", "c", {"p": 1}),
    "order": lambda shop: shop.order("MARS", "o"),
    "names": lambda shop: shop.names("MARS", "A"),
    "get_customers_detail_location": lambda shop: shop.get_customers_detail_location("MARS"),
    "get_customers_detail_name": lambda shop: shop.get_customers_detail_name("Ada", "MARS"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose nodes do not run."""
    ports = zip(REGIONS, free_ports(3), strict=True)
    nodes = [{"name": name, "host": "127.0.0.1", "port": port} for name, port in ports]
    (tmp_path / "secrets").mkdir()
    for name in configuration.PASSWORDS.values():
        (tmp_path / "secrets" / name).write_text("unused")
    (tmp_path / "fragments.json").write_text(json.dumps({"version": 1, "nodes": nodes}))
    return tmp_path / "fragments.json"


@pytest.mark.parametrize("operation", OF_A_REGION)
@pytest.mark.parametrize("which", ["postgres", "mongodb"])
def test_a_region_that_there_is_not_is_refused_in_the_same_words_on_both_stores(
    file: Path, which: str, operation: str
) -> None:
    stores = configuration.find(file)
    shop: Store = RelationalShop(stores) if which == "postgres" else MongoShop(stores, MongoClient(connect=False))
    with pytest.raises(BadUseError, match=r"^no node 'MARS'; there are APJ, EMEA, LATAM$"):
        OF_A_REGION[operation](shop)


def test_a_recovery_that_could_ask_nobody_does_not_say_that_all_is_well(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recover", "--json", f"--configuration={file}"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"changes": [], "in_doubt": {}, "away": list(REGIONS)}
    assert [line for line in said.err.splitlines() if line.endswith("does not answer: recover again when it is back")]


def test_a_repair_of_one_node_alone_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["repair", "--node=APJ", "--node=APJ", f"--configuration={file}"]) == 2
    assert capsys.readouterr().err == (
        "shardmart fragments: a repair is between two nodes or more, and APJ alone is named\n"
    )


def test_what_is_no_select_is_refused_before_a_configuration_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "DELETE FROM Products", f"--configuration={tmp_path / 'none'}"]) == 2
    assert capsys.readouterr().err == "shardmart fragments: explain takes a SELECT\n"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1", "[]", '{"find": 1}', '{"find": "products", "sort": {}}', '{"aggregate": "customers"}',
        '{"aggregate": "customers", "pipeline": [1]}', '{"delete": "products", "filter": {}}',
    ],
)  # fmt: skip
def test_explain_of_mongodb_takes_a_find_or_an_aggregate_alone(
    file: Path, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "--store=mongodb", f"--configuration={file}", query]) == 2
    assert 'write {"find": "products"' in capsys.readouterr().err
