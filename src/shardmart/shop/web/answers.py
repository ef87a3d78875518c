"""Documents that several services answer with or take, and what goes with them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Header, HTTPException, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from ..domain.order import Order
from ..ports import Store, Unit
from ..saga.idempotency import Answer, Request, once
from ..services.order import utc
from .tokens import Caller

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ProductId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x20,/]+$")]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1000)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$", description="One a request."
    ),
]
IfMatch = Annotated[str | None, Header(alias="If-Match", description='The order\'s ETag, as `"3"`.', max_length=40)]
OrderPath = Annotated[str, Path(min_length=1, max_length=200, description="REGION.USER.ORDER")]


class Body(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Address(Body):
    """Where an order goes."""

    street: Text
    postcode: Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[^\x00-\x1f\x7f]+$")]
    city: Text
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


def order_document(order: Order) -> dict[str, Any]:
    """An order as callers see it."""
    return {
        "id": order.id,
        "customer": order.customer,
        "status": order.status,
        "reason": order.reason,
        "items": [
            {"product_id": line.product, "quantity": line.quantity, "unit_price_cents": line.unit_price_cents}
            for line in order.lines
        ],
        "total_cents": order.total_cents,
        "address": order.address,
        "created_at": utc(order.created_at) if order.created_at else None,
        "version": order.version,
        "trace": order.trace,
        "history": [entry | {"at": utc(entry["at"])} for entry in order.history],
    }


async def answered_once(
    store: Store,
    regions: tuple[str, ...],
    caller: Caller,
    key: str,
    what: str,
    body: Mapping[str, Any],
    work: Callable[[Unit], Awaitable[Answer]],
) -> Response:
    """Do `work` in one transaction with its answer; a repetition gets the answer of the first time."""
    request = Request(caller.subject, caller.region(regions), key, what, body)
    answer, repeated = await once(store, request, work)
    headers = dict(answer.headers) | ({"Idempotency-Replayed": "true"} if repeated else {})
    return Response(answer.body, answer.status, headers, "application/json")


def version_of(if_match: str | None) -> int:
    """The version in If-Match; 428 without one, 412 for what is no version of ours."""
    if if_match is None:
        raise HTTPException(428, "If-Match with the ETag of what is to be changed is needed")
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise HTTPException(412, "If-Match is not an ETag of this order")
    return int(text)


def cursor_of(at: datetime, order: str) -> str:
    """Where a page ended."""
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), order]).encode()).decode()


def parse_cursor(text: str) -> tuple[datetime, str]:
    """What `cursor_of` made; 422 for anything else."""
    try:
        at, order = json.loads(base64.urlsafe_b64decode(text.encode()))
        moment = datetime.fromisoformat(at)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise HTTPException(422, "the cursor is not one of ours") from None
    if moment.tzinfo is None or not isinstance(order, str) or not 0 < len(order) <= 200:
        raise HTTPException(422, "the cursor is not one of ours")
    return moment, order
