"""The catalogue's endpoints.  Products need no token; a cart is its customer's."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ..domain.cart import pieces
from ..ports import CartStore
from ..services.catalogue import Catalogue, Wanted
from .answers import CartPath, cart_of
from .tokens import AnyCaller


class Metadata(BaseModel):
    """What `productmetas` says."""

    description: str
    tags: list[str]
    specifications: dict[str, Any]


class Product(BaseModel):
    """A product.  What a source that is away would say is null."""

    id: str
    name: str | None
    price: str | None
    metadata: Metadata | None
    stock: str | None


class CartItem(BaseModel):
    """Pieces of a product in a cart, and the product as the catalogue shows it."""

    product_id: str
    quantity: int
    product: Product | None


class Cart(BaseModel):
    """A cart with its products."""

    customer: str
    items: list[CartItem]


Word = Annotated[str | None, Query(min_length=1, max_length=100)]


def add(app: FastAPI, catalogue: Catalogue, carts: CartStore, fresh_seconds: float, regions: tuple[str, ...]) -> None:
    """Add the endpoints to `app`."""

    @app.get("/api/products", summary="Products with metadata and stock", response_model=list[Product])
    async def products(
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[
            str | None, Query(min_length=1, max_length=100, description="The last id of the page before")
        ] = None,
        q: Word = None,
        category: Word = None,
        *,
        request: Request,
    ) -> Response:
        page = await catalogue.page(Wanted(after, limit, q, category))
        headers = {"Cache-Control": f"max-age={int(fresh_seconds)}"}
        if page.missing:
            headers["Catalogue-Missing"] = ", ".join(page.missing)
        if page.following:
            more = {"limit": limit, "after": page.following, "q": q, "category": category}
            query = urlencode({key: value for key, value in more.items() if value is not None})
            headers["Link"] = f'</api/products?{query}>; rel="next"'
        answer = Response(page.body, headers=headers, media_type="application/json")
        app.state.remembered.remember(request.scope, answer, page.until)
        return answer

    @app.get("/api/products/{product}", summary="One product", response_model=Product)
    async def one(product: Annotated[str, Path(min_length=1, max_length=100)]) -> Response:
        found, missing = await catalogue.product(product)
        if found is None:
            raise HTTPException(404, "there is no such product")
        return JSONResponse(found, headers={"Catalogue-Missing": ", ".join(missing)} if missing else {})

    @app.get("/api/carts/{customer}", summary="A cart with its products", response_model=Cart)
    async def cart(customer: CartPath, caller: AnyCaller) -> Response:
        owner = cart_of(caller, customer, regions)
        wanted = pieces(await carts.lines(owner))
        shown = await asyncio.gather(*(catalogue.product(product) for product in wanted))
        items = [
            {"product_id": product, "quantity": quantity, "product": found}
            for (product, quantity), (found, _) in zip(wanted.items(), shown, strict=True)
        ]
        missing = sorted({source for _, sources in shown for source in sources})
        headers = {"Catalogue-Missing": ", ".join(missing)} if missing else {}
        return JSONResponse({"customer": str(owner), "items": items}, headers=headers)
