"""The order service's endpoints for carts."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import FastAPI, Path, Response

from ..domain.cart import CartLine, pieces
from ..ports import Store, Unit
from ..saga.idempotency import Answer
from ..services.carts import Carts
from ..telemetry import Telemetry
from . import answers
from .answers import Address, Body, CartPath, IdempotencyKey, ProductId, Quantity, cart_of, order_document
from .tokens import AnyCaller

LinePath = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Chosen by the client; the same again is the same line.")
]


class Line(Body):
    """Pieces of a product."""

    product_id: ProductId
    quantity: Quantity


class Checkout(Body):
    """Where the order goes."""

    address: Address | None = None


def add(app: FastAPI, carts: Carts, store: Store, telemetry: Telemetry, regions: tuple[str, ...]) -> None:
    """Add the endpoints to `app`."""

    @app.get("/carts/{customer}", summary="A cart: its lines, and what they add up to")
    async def get(customer: CartPath, caller: AnyCaller) -> dict[str, Any]:
        owner = cart_of(caller, customer, regions)
        lines = await carts.lines(owner)
        return {
            "customer": str(owner),
            "lines": [_document(line) for line in lines],
            "items": [{"product_id": product, "quantity": quantity} for product, quantity in pieces(lines).items()],
        }

    @app.put("/carts/{customer}/lines/{line}", summary="Put a line into a cart, or change it")
    async def put(customer: CartPath, line: LinePath, body: Line, caller: AnyCaller) -> dict[str, Any]:
        made = CartLine(line, body.product_id, body.quantity)
        await carts.put(cart_of(caller, customer, regions), made)
        return _document(made)

    @app.delete("/carts/{customer}/lines/{line}", status_code=204, summary="Take a line out of a cart")
    async def remove(customer: CartPath, line: LinePath, caller: AnyCaller) -> Response:
        await carts.remove(cart_of(caller, customer, regions), line)
        return Response(status_code=204)

    @app.post("/carts/{customer}/checkout", status_code=201, summary="Order what is in a cart, and empty it")
    async def checkout(
        customer: CartPath, body: Checkout, caller: AnyCaller, idempotency_key: IdempotencyKey
    ) -> Response:
        owner = cart_of(caller, customer, regions)
        address = body.address.model_dump() if body.address else None

        async def work(unit: Unit) -> Answer:
            order, lines = await carts.order(unit, owner, address)
            telemetry.orders.labels(order.status).inc()
            headers = {"Location": f"/orders/{order.id}", "ETag": f'"{order.version}"'}
            return 201, order_document(order) | {"cart_lines": [line.id for line in lines]}, headers

        what = f"POST /carts/{owner}/checkout"
        answer = await answers.answered_once(store, regions, caller, idempotency_key, what, body.model_dump(), work)
        await carts.take_out(owner, json.loads(bytes(answer.body))["cart_lines"])
        return answer


def _document(line: CartLine) -> dict[str, Any]:
    return {"line": line.id, "product_id": line.product, "quantity": line.quantity}
