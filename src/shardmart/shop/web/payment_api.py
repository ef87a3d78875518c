"""The payment service's endpoints."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel, Field

from ..adapters.signature import signature
from ..domain.identifiers import OrderId
from ..domain.payment import Payment
from ..ports import Store, Unit
from ..saga.idempotency import Answer
from ..services.order import utc
from ..services.payment import Payments
from . import answers
from .answers import IdempotencyKey, OrderPath
from .tokens import AnyCaller, Operator

TOLERANCE_SECONDS = 300


class News(BaseModel):
    """What the provider's webhook says.  Only the order is used: the provider itself is asked for the rest."""

    order: Annotated[str, Field(min_length=1, max_length=200)]


def document(payment: Payment) -> dict[str, Any]:
    """A payment as callers see it."""
    return {
        "order": payment.id,
        "state": payment.state,
        "amount_cents": payment.amount_cents,
        "charge": payment.charge,
        "refund": payment.refund,
        "attempts": payment.attempts,
        "due_at": utc(payment.due_at) if payment.due_at else None,
    }


def add(app: FastAPI, store: Store, webhook_secret: str, regions: tuple[str, ...], nudge: Callable[[], None]) -> None:
    """Add the endpoints to `app`; `nudge` lets the consumer look at once for what is due."""
    payments = Payments(store)

    @app.get("/payments/{order}", summary="The payment of an order")
    async def get(order: OrderPath, caller: AnyCaller) -> dict[str, Any]:
        id_ = OrderId.parse(order)
        caller.must_be(id_.customer)
        return document(await payments.get(id_.region, str(id_)))

    @app.post("/payments/{order}/refund", summary="Ask for a declined refund once more")
    async def refund(order: OrderPath, caller: Operator, idempotency_key: IdempotencyKey) -> Response:
        id_ = OrderId.parse(order)

        async def work(unit: Unit) -> Answer:
            return 202, document(await payments.refund_again(unit, id_.region, str(id_))), {}

        what = f"POST /payments/{order}/refund"
        return await answers.answered_once(store, regions, caller, idempotency_key, what, {}, work)

    @app.post("/webhooks/provider", status_code=202, summary="The provider has news of an order")
    async def news(
        request: Request, body: News, provider_signature: Annotated[str, Header(max_length=200)]
    ) -> dict[str, bool]:
        _must_be_signed(webhook_secret, provider_signature, await request.body())
        id_ = OrderId.parse(body.order)
        await payments.hint(id_.region, str(id_))
        nudge()
        return {"accepted": True}


def _must_be_signed(secret: str, given: str, body: bytes) -> None:
    """401 unless `t=SECONDS,v1=HEX` is the provider's signature of the body, not older than five minutes."""
    parts = dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    at = parts.get("t", "")
    if not (at.isascii() and at.isdigit() and len(at) < 12) or abs(time.time() - int(at)) > TOLERANCE_SECONDS:
        raise HTTPException(401, "the signature is missing or too old")
    wanted = signature(secret, int(at), body)
    if not hmac.compare_digest(wanted.encode(), parts.get("v1", "").encode("utf-8", "replace")):
        raise HTTPException(401, "the signature is not the provider's")
