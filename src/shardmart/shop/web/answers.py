"""Documents that several services answer with or take, and what goes with them."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Header, HTTPException, Path, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from ..domain.errors import NotFoundError
from ..domain.identifiers import Customer
from ..domain.order import Order
from ..ports import Store, Unit
from ..saga.idempotency import Answer, Request, once
from ..services.order import utc
from .door import is_plain, must_be_flat
from .tokens import Caller

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ProductId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x20,/]+$")]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1000)]


def moment(at: datetime) -> datetime:
    """A time with a zone, in UTC; ValueError for one that a store could not hold (before 1970, after 9999 in UTC)."""
    try:
        there = at.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None
    if there < LONG_AGO:
        raise ValueError("the time is before 1970")
    return there


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a time is text")  # noqa: TRY004 - pydantic wants a ValueError
    return value


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
Moment = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(moment)]
"""As text (RFC 3339), which is all that the OpenAPI documents say."""
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$", description="One a request."
    ),
]
IfMatch = Annotated[str | None, Header(alias="If-Match", description='The order\'s ETag, as `"3"`.', max_length=40)]
CartPath = Annotated[str, Path(min_length=1, max_length=200, description="REGION.USER")]
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


def cart_of(caller: Caller, customer: str, regions: tuple[str, ...]) -> Customer:
    """Whose cart it is; NotFoundError unless the caller is that customer or an operator, or for no such region."""
    owner = Customer.parse(customer)
    caller.must_be(owner, "cart")
    if owner.region not in regions:
        raise NotFoundError("there is no such cart")
    return owner


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
        decoded = base64.urlsafe_b64decode(text.encode()).decode()
        must_be_flat(decoded)
        at, order = json.loads(decoded)
        seen = datetime.fromisoformat(at)
        known = (moment(seen), order) if seen.tzinfo and 0 < len(order) <= 200 and is_plain(order) else None
    except (ValueError, TypeError):
        known = None
    if known is None:
        raise HTTPException(422, "the cursor is not one of ours")
    return known
