"""The inventory service's endpoints."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query, Response
from pydantic import Field

from ..domain.errors import NotFoundError
from ..domain.identifiers import region_of
from ..domain.stock import Reservation, Stock
from ..ports import Store, Unit
from ..saga.idempotency import Answer
from ..services.inventory import Inventory
from ..services.order import utc
from . import answers
from .answers import Body, IdempotencyKey, OrderPath
from .tokens import Operator

MAXIMUM_PRODUCTS = 100
ProductPath = Annotated[str, Path(min_length=1, max_length=100)]


class Restock(Body):
    """Pieces that came in."""

    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


def document(stock: Stock) -> dict[str, Any]:
    """Stock as callers see it."""
    return {"product_id": stock.id, "available": stock.available, "low": stock.low, "version": stock.version}


def add(app: FastAPI, store: Store, threshold: int, regions: tuple[str, ...]) -> None:
    """Add the endpoints to `app`."""
    inventory = Inventory(store, threshold)

    @app.get("/stock", summary="Stock of some products, or of those that are low")
    async def some(
        ids: Annotated[str | None, Query(max_length=10_200, description="Products, separated by commas")] = None,
        low: Annotated[bool, Query(description="Those whose stock is low")] = False,
    ) -> dict[str, Any]:
        if low:
            return {"items": [document(stock) for stock in await inventory.low()]}
        wanted = [part for part in (ids or "").split(",") if part]
        if not 1 <= len(wanted) <= MAXIMUM_PRODUCTS:
            raise HTTPException(422, f"query.ids: 1 to {MAXIMUM_PRODUCTS} products, or low=true")
        found = await inventory.stocks(wanted)
        return {"items": [document(found[product]) for product in dict.fromkeys(wanted) if product in found]}

    @app.get("/stock/{product}", summary="Stock of a product")
    async def one(product: ProductPath) -> dict[str, Any]:
        return document(await inventory.stock(product))

    @app.post("/stock/{product}/restock", summary="Put pieces in")
    async def restock(
        product: ProductPath, body: Restock, caller: Operator, idempotency_key: IdempotencyKey
    ) -> Response:
        async def work(unit: Unit) -> Answer:
            return 200, document(await inventory.restock(unit, product, body.quantity)), {}

        what = f"POST /stock/{product}/restock"
        return await answers.answered_once(store, regions, caller, idempotency_key, what, body.model_dump(), work)

    @app.get("/reservations/{order}", summary="What an order holds")
    async def reservation(order: OrderPath, _: Operator) -> dict[str, Any]:
        found = await store.get(Reservation, region_of(order), order)
        if found is None:
            raise NotFoundError("there is no reservation of this order")
        return {
            "order": found.id,
            "state": found.state,
            "revision": found.revision,
            "pieces": [{"product_id": p, "quantity": q} for p, q in found.pieces.items()],
            "until": utc(found.until) if found.until else None,
        }
