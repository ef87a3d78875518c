"""`shardmart fragments crud`: every operation of the shop is a command on either store, and prints what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shardmart.errors import BadUseError
from shardmart.fragments import shop_commands
from shardmart.fragments.relational.seeding import TABLES
from shardmart.fragments.shop_commands import Which, crud


class Shop:
    """A store that answers with the operation and what it was given."""

    def __getattr__(self, operation: str) -> Any:
        return lambda *arguments: {operation: list(arguments)}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Which, Path | None]]:
    asked: list[tuple[Which, Path | None]] = []

    @contextmanager
    def opened(which: Which, file: Path | None) -> Iterator[Shop]:
        asked.append((which, file))
        yield Shop()

    monkeypatch.setattr(shop_commands, "opened", opened)
    return asked


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (
            ["create-product", "p1", "Lamp", "home", "12.50", "3"],
            {"create_product": ["p1", "Lamp", "home", "12.50", 3]},
        ),
        (["product", "p1"], {"product": ["p1"]}),
        (["products-between", "10", "20"], {"products_between": ["10", "20"]}),
        (["change-price", "p1", "9.00"], {"change_price": ["p1", "9.00"]}),
        (["delete-product", "p1"], {"product": ["p1"]}),
        (["customer", "APJ", "7"], {"customer": ["APJ", "7"]}),
        (["delete-customer", "APJ", "7"], {"customer": ["APJ", "7"]}),
        (["detail-location", "--region", "APJ"], {"get_customers_detail_location": ["APJ", None]}),
        (["detail-name", "Ada", "--region", "APJ"], {"get_customers_detail_name": ["Ada", "APJ"]}),
        (["rename-customer", "APJ", "7", "Ada"], {"rename_customer": ["APJ", "7", "Ada"]}),
        (["move-customer", "APJ", "7", "EMEA"], {"move_customer": ["APJ", "7", "EMEA"]}),
        (["place-order", "APJ", "7", "p1=2", "p2=1"], {"place_order": ["APJ", "7", {"p1": 2, "p2": 1}]}),
        (["order", "APJ", "9"], {"order": ["APJ", "9"]}),
        (["names", "Al"], {"names": [None, "Al"]}),
        (["names", "Al", "--region", "EMEA"], {"names": ["EMEA", "Al"]}),
    ],
)
def test_command_is_the_operation_on_the_store_that_was_asked_for(
    words: list[str], done: dict[str, Any], opened: list[tuple[Which, Path | None]], tmp_path: Path
) -> None:
    here = CliRunner().invoke(crud, words)
    there = CliRunner().invoke(crud, [*words, "--store", "mongodb", "--configuration", str(tmp_path)])
    assert (here.exit_code, json.loads(here.stdout)) == (0, done)
    assert (there.exit_code, json.loads(there.stdout)) == (0, done)
    assert opened == [(Which.postgres, None), (Which.mongodb, tmp_path)]


@pytest.mark.parametrize("stock", ["three", "²", "\uff13", "1.5", "1_0", ""])
def test_a_stock_is_written_in_plain_digits(stock: str, opened: list[tuple[Which, Path | None]]) -> None:
    assert CliRunner().invoke(crud, ["create-product", "p1", "Lamp", "home", "12.50", stock]).exit_code == 2
    assert opened == []


@pytest.mark.parametrize("item", ["p1", "p1=", "p1=two", "p1=-1", "p1=²"])
def test_item_without_pieces_is_refused_before_any_store_is_asked(
    item: str, opened: list[tuple[Which, Path | None]]
) -> None:
    refused = CliRunner().invoke(crud, ["place-order", "APJ", "7", item])
    assert isinstance(refused.exception, BadUseError)
    assert str(refused.exception) == f"{item!r}: write PRODUCT=PIECES"
    assert opened == []


def test_every_command_says_what_it_does() -> None:
    said = CliRunner().invoke(crud, ["--help"]).stdout
    commands = {command.callback.__name__.replace("_", "-") for command in crud.registered_commands if command.callback}
    assert commands == {
        "create-product", "product", "products-between", "change-price", "delete-product", "create-customer",
        "customer", "rename-customer", "move-customer", "delete-customer", "place-order", "order", "names",
        "detail-location", "detail-name",
    }  # fmt: skip
    assert all(name in said for name in commands)
    assert "..." not in said.partition("Commands:")[2], "each says it in the width of a terminal"


def test_a_new_customer_has_an_address_and_a_time(opened: list[tuple[Which, Path | None]]) -> None:
    words = ["create-customer", "APJ", "7", "Ada", "ada@example.com", "Main 1", "1000", "Rome"]
    made = json.loads(CliRunner().invoke(crud, [*words, "IT"]).stdout)["create_customer"][0]
    assert list(made) == list(TABLES["customer"])
    assert (made["customer_name"], made["country"]) == ("Ada", "IT")
    refused = CliRunner().invoke(crud, [*words, "Italy"])
    assert str(refused.exception) == "'Italy': write a country as two capital letters, such as IT"
    assert len(opened) == 1, "no store was asked"
