"""The order service's endpoints."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from ..domain.errors import InvalidError
from ..domain.identifiers import Customer, OrderId
from ..ports import EventLog, Store, Unit
from ..saga.idempotency import Answer
from ..services.order import Orders, utc
from ..telemetry import Telemetry
from . import answers
from .answers import Address, Body, IdempotencyKey, IfMatch, OrderPath, ProductId, Quantity, order_document
from .tokens import AnyCaller, Operator

SUMMARY_SECONDS = 2.0


class Item(Body):
    """Pieces of a product."""

    product_id: ProductId
    quantity: Quantity


class NewOrder(Body):
    """What is ordered.  A customer's own id is known from the token; an operator says whose order it is."""

    items: Annotated[list[Item], Field(min_length=1, max_length=100)]
    customer: Annotated[str, Field(min_length=3, max_length=100)] | None = None
    address: Address | None = None


class ChangedItem(Body):
    """Other pieces of a product that is in the order; 0 takes it out."""

    product_id: ProductId
    quantity: Annotated[int, Field(strict=True, ge=0, le=1000)]


class Change(Body):
    """What is to be different."""

    items: Annotated[list[ChangedItem], Field(min_length=1, max_length=100)] | None = None
    address: Address | None = None


def add(app: FastAPI, store: Store, log: EventLog, telemetry: Telemetry, regions: tuple[str, ...]) -> None:
    """Add the endpoints to `app`."""
    orders = Orders(store)
    summary: dict[str, Any] = {}

    def found(caller: AnyCaller, order: str) -> OrderId:
        id_ = OrderId.parse(order)
        caller.must_be(id_.customer)
        return id_

    @app.post("/orders", status_code=201, summary="Place an order")
    async def place(body: NewOrder, caller: AnyCaller, idempotency_key: IdempotencyKey) -> Response:
        if caller.customer is None and body.customer is None:
            raise HTTPException(422, "body.customer: an operator says whose order it is")
        customer = caller.customer or Customer.parse(body.customer or "")
        if body.customer is not None and body.customer != str(customer):
            raise HTTPException(403, "an order is placed for oneself")
        if customer.region not in regions:
            raise InvalidError("there is no such region")
        address = body.address.model_dump() if body.address else None

        async def work(unit: Unit) -> Answer:
            lines = await orders.priced(customer, [(item.product_id, item.quantity) for item in body.items])
            order = await orders.place(unit, customer, lines, address)
            telemetry.orders.labels(order.status).inc()
            headers = {"Location": f"/orders/{order.id}", "ETag": f'"{order.version}"'}
            return 201, order_document(order), headers

        return await answers.answered_once(
            store, regions, caller, idempotency_key, "POST /orders", body.model_dump(), work
        )

    @app.get("/orders", summary="Orders of a customer, newest first")
    async def of_customer(
        caller: AnyCaller,
        user: Annotated[
            str | None, Query(max_length=100, description="REGION.USER; a customer's own by default")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> dict[str, Any]:
        if user is None and caller.customer is None:
            raise HTTPException(422, "query.user: an operator says whose orders")
        customer = Customer.parse(user) if user is not None else caller.customer
        assert customer
        caller.must_be(customer)
        before = answers.parse_cursor(cursor) if cursor else None
        page = await orders.of_customer(customer, before, limit + 1)
        more = len(page) > limit
        page = page[:limit]
        following = None
        if more and page[-1].created_at:
            following = answers.cursor_of(page[-1].created_at, OrderId.parse(page[-1].id).order)
        return {"items": [order_document(order) for order in page], "next": following}

    @app.get("/orders/{order}", summary="One order with its history")
    async def get(order: OrderPath, caller: AnyCaller) -> Response:
        found_ = await orders.get(found(caller, order))
        return JSONResponse(order_document(found_), headers={"ETag": f'"{found_.version}"'})

    @app.get("/orders/{order}/events", summary="What was told of an order, by every service")
    async def events(order: OrderPath, caller: AnyCaller) -> dict[str, Any]:
        id_ = found(caller, order)
        told = await log.of_key(id_.region, str(id_))
        return {
            "items": [
                {
                    "id": event.id,
                    "type": event.type,
                    "producer": event.producer,
                    "number": event.number,
                    "at": utc(event.at) if event.at else None,
                    "trace": event.trace,
                    "data": event.data,
                }
                for event in told
            ]
        }

    @app.patch("/orders/{order}", summary="Change quantities or the address of a pending order")
    async def change(order: OrderPath, body: Change, caller: AnyCaller, if_match: IfMatch = None) -> Response:
        id_ = found(caller, order)
        version = answers.version_of(if_match)
        if body.items is None and body.address is None:
            raise HTTPException(422, "body: items or address is needed")
        quantities = {item.product_id: item.quantity for item in body.items} if body.items else None
        address = body.address.model_dump() if body.address else None
        changed = await orders.change(id_, version, address, quantities)
        return JSONResponse(order_document(changed), headers={"ETag": f'"{changed.version}"'})

    @app.post("/orders/{order}/cancel", summary="Cancel an order; stock and money go back")
    async def cancel(order: OrderPath, caller: AnyCaller, idempotency_key: IdempotencyKey) -> Response:
        id_ = found(caller, order)

        async def work(unit: Unit) -> Answer:
            cancelled = await orders.cancel(unit, id_)
            return 200, order_document(cancelled), {"ETag": f'"{cancelled.version}"'}

        what = f"POST /orders/{order}/cancel"
        return await answers.answered_once(store, regions, caller, idempotency_key, what, {}, work)

    @app.get("/summary", include_in_schema=False)
    async def count(_: Operator) -> dict[str, Any]:
        if not summary or summary["until"] < time.monotonic():
            counted = await store.count_by_status()
            summary.update(
                by_status=counted, counted_at=utc(datetime.now(UTC)), until=time.monotonic() + SUMMARY_SECONDS
            )
        return {"by_status": summary["by_status"], "counted_at": summary["counted_at"]}
