"""`shardmart fragments crud`: the shop's operations by hand, on the relational store or on MongoDB, in the same
words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from shardmart.errors import BadUseError

from . import configuration as configurations
from .store import Store

crud = typer.Typer(
    help="Products, customers and orders, on either store. Each command prints what is there afterwards as JSON.",
    no_args_is_help=True,
)


class Which(StrEnum):
    """Which store."""

    postgres = "postgres"
    mongodb = "mongodb"


On = Annotated[Which, typer.Option("--store", help="Which store.")]
File = Annotated[Path | None, typer.Option("--configuration", help="Where the stores are.")]


@contextmanager
def opened(which: Which, file: Path | None) -> Iterator[Store]:
    """The store that was asked for; its driver alone is imported."""
    stores = configurations.find(file)
    store: Store
    if which is Which.postgres:
        from .relational.shop import RelationalShop

        store = RelationalShop(stores)
    else:
        from .mongodb.shop import MongoShop

        store = MongoShop.connect(stores)
    try:
        yield store
    finally:
        store.close()


def _show(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))


@crud.command()
def create_product(
    product_id: str,
    name: str,
    category: str,
    price: str,
    stock: int,
    store: On = Which.postgres,
    configuration: File = None,
) -> None:
    """A new product, into the fragment of its price (written like 12.50)."""
    with opened(store, configuration) as shop:
        _show(shop.create_product(product_id, name, category, price, stock))


@crud.command()
def product(product_id: str, store: On = Which.postgres, configuration: File = None) -> None:
    """A product, wherever it is; null when it is nowhere."""
    with opened(store, configuration) as shop:
        _show(shop.product(product_id))


@crud.command()
def products_between(low: str, high: str, store: On = Which.postgres, configuration: File = None) -> None:
    """Products with LOW <= price < HIGH."""
    with opened(store, configuration) as shop:
        _show(shop.products_between(low, high))


@crud.command()
def change_price(product_id: str, price: str, store: On = Which.postgres, configuration: File = None) -> None:
    """Another price; in another band the product moves to that fragment in one transaction."""
    with opened(store, configuration) as shop:
        _show(shop.change_price(product_id, price))


@crud.command()
def delete_product(product_id: str, store: On = Which.postgres, configuration: File = None) -> None:
    """Remove a product."""
    with opened(store, configuration) as shop:
        shop.delete_product(product_id)
        _show(shop.product(product_id))


@crud.command()
def customer(region: str, customer_id: str, store: On = Which.postgres, configuration: File = None) -> None:
    """A customer of a region; null when there is none."""
    with opened(store, configuration) as shop:
        _show(shop.customer(region, customer_id))


@crud.command()
def rename_customer(
    region: str, customer_id: str, name: str, store: On = Which.postgres, configuration: File = None
) -> None:
    """Give a customer another name."""
    with opened(store, configuration) as shop:
        _show(shop.rename_customer(region, customer_id, name))


@crud.command()
def move_customer(
    region: str, customer_id: str, to: str, store: On = Which.postgres, configuration: File = None
) -> None:
    """Move a customer with all that is his to another region, in one transaction."""
    with opened(store, configuration) as shop:
        _show(shop.move_customer(region, customer_id, to))


@crud.command()
def place_order(
    region: str,
    customer_id: str,
    items: Annotated[list[str], typer.Argument(help="PRODUCT=PIECES, one or more.")],
    store: On = Which.postgres,
    configuration: File = None,
) -> None:
    """Order, payment, shipment and stock in one transaction over all the fragments that they are in."""
    pieces: dict[str, int] = {}
    for item in items:
        name, _, count = item.partition("=")
        if not (count.isascii() and count.isdigit()):
            raise BadUseError(f"{item!r}: write PRODUCT=PIECES")
        pieces[name] = int(count)
    with opened(store, configuration) as shop:
        _show(shop.place_order(region, customer_id, pieces))


@crud.command()
def order(region: str, order_id: str, store: On = Which.postgres, configuration: File = None) -> None:
    """An order with lines, payments and shipments; null when there is none."""
    with opened(store, configuration) as shop:
        _show(shop.order(region, order_id))


@crud.command()
def names(
    prefix: str,
    region: Annotated[str | None, typer.Option(help="Of this region alone.")] = None,
    store: On = Which.postgres,
    configuration: File = None,
) -> None:
    """Customers whose names begin with PREFIX."""
    with opened(store, configuration) as shop:
        _show(shop.names(region, prefix))
