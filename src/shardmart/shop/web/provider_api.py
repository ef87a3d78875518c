"""The simulated payment provider's endpoints, and the webhooks it sends."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from typing import Annotated, Any

import aiohttp
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from shardmart.tasks import cancel

from ..adapters.signature import signature
from ..services.provider import Action, Operation, ProviderLedger, Rule
from .answers import Body

WEBHOOK_ATTEMPTS = 5
logger = logging.getLogger(__name__)

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=300)]
_bearer = HTTPBearer(auto_error=False)
OrderText = Annotated[str, Field(min_length=1, max_length=200)]


class Charge(Body):
    """A charge."""

    order: OrderText
    amount_cents: Annotated[int, Field(strict=True, ge=0, le=10**15)]


class Refund(Body):
    """The return of a charge."""

    order: OrderText
    charge_key: Annotated[str, Field(min_length=1, max_length=300)]


class NewRule(Body):
    """See `services.provider.Rule`."""

    action: Action
    share: Annotated[float, Field(strict=True, ge=0, le=1)] = 1.0
    times: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    seconds: Annotated[float, Field(strict=True, ge=0, le=120)] = 0.0


class Rules(Body):
    """All of them: they replace those there were."""

    rules: Annotated[list[NewRule], Field(max_length=20)]


class Webhooks:
    """Tells the shop that there is news, signed, at most a few times; it is only a hint to the shop."""

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._secret = url, secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def send(self, operation: Operation, times: int) -> asyncio.Task[None]:
        """Send it in the background."""
        task = asyncio.create_task(self._send(operation, times))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Stop sending."""
        await cancel(*self._tasks)
        if self._session:
            await self._session.close()

    async def _send(self, operation: Operation, times: int) -> None:
        body = json.dumps({"order": operation.order, "kind": operation.kind, "answer": operation.answer}).encode()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        for _ in range(times):
            for attempt in range(WEBHOOK_ATTEMPTS):
                at = int(time.time())
                headers = {
                    "Content-Type": "application/json",
                    "Provider-Signature": f"t={at},v1={signature(self._secret, at, body)}",
                }
                try:
                    async with self._session.post(self._url, data=body, headers=headers) as response:
                        if response.status < 500:
                            break
                except (aiohttp.ClientError, TimeoutError) as error:
                    logger.info("a webhook was not taken", extra={"reason": type(error).__name__})
                await asyncio.sleep(0.5 * 2**attempt)


def add(app: FastAPI, ledger: ProviderLedger, webhooks: Webhooks, api_key: str) -> None:
    """Add the endpoints to `app`."""
    rules: list[Rule] = []

    async def known(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        key = given.credentials if given else ""
        if not hmac.compare_digest(key.encode("utf-8", "replace"), api_key.encode()):
            raise HTTPException(401, "the API key is needed", {"WWW-Authenticate": "Bearer"})

    def active(order: str, attempt: int) -> dict[str, Rule]:
        return {rule.action: rule for rule in rules if rule.applies(order, attempt)}

    async def begin(order: str, key: str) -> dict[str, Rule]:
        acts = active(order, ledger.attempt(key))
        if "delay" in acts:
            await asyncio.sleep(acts["delay"].seconds)
        if "fail" in acts:
            raise HTTPException(503, "the provider has a bad day")
        return acts

    async def end(operation: Operation, acts: dict[str, Rule]) -> dict[str, Any]:
        if "no-webhook" not in acts:
            sent = webhooks.send(operation, 3 if "repeat-webhook" in acts else 1)
            if "webhook-first" in acts:
                await asyncio.wait({sent}, timeout=2)
        if "lose-answer" in acts:
            raise HTTPException(503, "the answer is lost, the operation is not")
        return operation.document()

    @app.post("/charges", summary="Charge", dependencies=[Depends(known)])
    async def charge(body: Charge, idempotency_key: Key) -> dict[str, Any]:
        acts = await begin(body.order, idempotency_key)
        made = ledger.charge(idempotency_key, body.order, body.amount_cents, decline="decline" in acts)
        return await end(made, acts)

    @app.post("/refunds", summary="Return a charge, or never make it", dependencies=[Depends(known)])
    async def refund(body: Refund, idempotency_key: Key) -> dict[str, Any]:
        acts = await begin(body.order, idempotency_key)
        made = ledger.refund(idempotency_key, body.order, body.charge_key, decline="decline-refund" in acts)
        return await end(made, acts)

    @app.get("/ledger", summary="What the provider did", dependencies=[Depends(known)])
    async def entries(
        after: Annotated[int, Query(ge=0, le=2**62)] = 0, limit: Annotated[int, Query(ge=1, le=5000)] = 1000
    ) -> dict[str, Any]:
        return {"items": ledger.entries(after, limit)}

    @app.put("/rules", summary="The mistakes it makes from now on", dependencies=[Depends(known)])
    async def replace(body: Rules) -> dict[str, int]:
        rules[:] = [Rule(each.action, each.share, each.times, each.seconds) for each in body.rules]
        return {"rules": len(rules)}
