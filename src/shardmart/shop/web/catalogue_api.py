"""The catalogue's endpoints.  They need no token."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ..services.catalogue import Catalogue, Wanted


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


Word = Annotated[str | None, Query(min_length=1, max_length=100)]


def add(app: FastAPI, catalogue: Catalogue, fresh_seconds: float) -> None:
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
