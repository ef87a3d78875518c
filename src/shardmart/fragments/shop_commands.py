"""`shardmart fragments crud`: the shop's operations by hand, on the relational store or on MongoDB, in the same
words."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from shardmart.errors import BadUseError

from . import configuration as configurations
from .store import COUNTRY, Store

crud = typer.Typer(
    help="Products, customers and orders, on either store. Each command prints what is there afterwards as JSON.",
    no_args_is_help=True,
)


class Which(StrEnum):
    """Which store."""

    postgres = "postgres"
    mongodb = "mongodb"


def _whole(number: str) -> int:
    """Digits of ASCII, as a price has them; int() would take those of every script."""
    if not re.fullmatch("-?[0-9]{1,18}", number):
        raise typer.BadParameter(f"{number!r}: write a whole number")
    return int(number)


Stock = Annotated[int, typer.Argument(help="Pieces.", parser=_whole, metavar="STOCK")]
On = Annotated[Which, typer.Option("--store", help="Which store.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--configuration", help="Where the stores are.  [default: $SHARDMART_FRAGMENTS, or STATE/fragments.json]"
    ),
]
Region = Annotated[str, typer.Argument(help="The region that the customer is of, such as EMEA.")]
OneRegion = Annotated[
    str | None, typer.Option("--region", help="Of this region alone: one node, or the shards of one zone.")
]
Price = Annotated[str, typer.Argument(help="Such as 12.50; every price is in the band of one fragment.")]


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


def operation(work: Callable[..., Any]) -> Callable[..., None]:
    """Make `work(shop, …)` a command: its further parameters are the command's, then come --store and
    --configuration; what it returns is printed as JSON."""
    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]

    def command(*, store: Which, configuration: Path | None, **arguments: Any) -> None:
        with opened(store, configuration) as shop:
            print(json.dumps(work(shop, **arguments), indent=2, default=str, ensure_ascii=False))

    where = [
        inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=Which.postgres, annotation=On),
        inspect.Parameter("configuration", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=File),
    ]
    # What Typer reads of a function.
    command.__name__, command.__doc__ = work.__name__, work.__doc__
    command.__signature__ = inspect.Signature([*own, *where])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *where)}
    return crud.command()(command)


def _country(code: str) -> str:
    """Before any store is asked."""
    if not COUNTRY.fullmatch(code):
        raise BadUseError(f"{code!r}: write a country as two capital letters, such as IT")
    return code


@operation
def create_product(shop: Store, product_id: str, name: str, category: str, price: Price, stock: Stock) -> Any:
    """A new product, into the fragment of its price."""
    return shop.create_product(product_id, name, category, price, stock)


@operation
def product(shop: Store, product_id: str) -> Any:
    """A product, wherever it is; null when it is nowhere."""
    return shop.product(product_id)


@operation
def products_between(shop: Store, low: str, high: str) -> Any:
    """Products with LOW <= price < HIGH."""
    return shop.products_between(low, high)


@operation
def change_price(shop: Store, product_id: str, price: Price) -> Any:
    """Another price, perhaps in another fragment.

    In another band the product moves to that fragment in one transaction.
    """
    return shop.change_price(product_id, price)


@operation
def delete_product(shop: Store, product_id: str) -> Any:
    """Remove a product."""
    shop.delete_product(product_id)
    return shop.product(product_id)


@operation
def customer(shop: Store, region: Region, customer_id: str) -> Any:
    """A customer of a region; null when there is none."""
    return shop.customer(region, customer_id)


@operation
def create_customer(
    shop: Store,
    region: Region,
    customer_id: str,
    name: str,
    email: str,
    street: str,
    postcode: str,
    city: str,
    country: Annotated[str, typer.Argument(help="Two capital letters, such as IT.", callback=_country)],
) -> Any:
    """A new customer of a region."""
    now = datetime.now(UTC)
    address = {"street": street, "postcode": postcode, "city": city, "country": country}
    row = {"region": region, "customer_id": customer_id, "customer_name": name, "email": email} | address
    # To the millisecond, as both stores keep it.
    return shop.create_customer(row | {"created_at": now.replace(microsecond=now.microsecond // 1000 * 1000)})


@operation
def delete_customer(shop: Store, region: Region, customer_id: str) -> Any:
    """Remove a customer who has no orders."""
    shop.delete_customer(region, customer_id)
    return shop.customer(region, customer_id)


@operation
def rename_customer(shop: Store, region: Region, customer_id: str, name: str) -> Any:
    """Give a customer another name."""
    return shop.rename_customer(region, customer_id, name)


@operation
def move_customer(
    shop: Store,
    region: Region,
    customer_id: str,
    to: Annotated[str, typer.Argument(help="The region that he moves to.")],
) -> Any:
    """Move a customer to another region.

    Orders, payments and shipments go with him, in one transaction.
    """
    return shop.move_customer(region, customer_id, to)


def _parted(item: str) -> tuple[str, str, str]:
    return item.partition("=")


def _checked(items: list[str]) -> list[str]:
    """Before any store is asked."""
    for item in items:
        _, _, count = _parted(item)
        if not (count.isascii() and count.isdigit()):
            raise BadUseError(f"{item!r}: write PRODUCT=PIECES")
    return items


@operation
def place_order(
    shop: Store,
    region: Region,
    customer_id: str,
    items: Annotated[list[str], typer.Argument(help="PRODUCT=PIECES, one or more.", callback=_checked)],
) -> Any:
    """Order, payment, shipment and stock at once.

    One transaction over all the fragments that they are in.
    """
    return shop.place_order(region, customer_id, {name: int(count) for name, _, count in map(_parted, items)})


@operation
def order(shop: Store, region: Region, order_id: str) -> Any:
    """An order with all that belongs to it.

    Its lines, payments and shipments; null when there is none.
    """
    return shop.order(region, order_id)


@operation
def names(shop: Store, prefix: str, region: OneRegion = None) -> Any:
    """Customers whose names begin with PREFIX."""
    return shop.names(region, prefix)


@operation
def detail_location(
    shop: Store,
    region: OneRegion = None,
    country: Annotated[str | None, typer.Option(help="Of this country alone.")] = None,
) -> Any:
    """Customers, orders and turnover of each city.

    The aggregation get_customers_detail_location.
    """
    return shop.get_customers_detail_location(region, country)


@operation
def detail_name(shop: Store, name: str, region: OneRegion = None) -> Any:
    """Customers of a name: address, orders, turnover.

    The aggregation get_customers_detail_name.
    """
    return shop.get_customers_detail_name(name, region)
