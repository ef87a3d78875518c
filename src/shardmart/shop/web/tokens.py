"""Bearer tokens: who calls, and what he may see.

A token is a JWT (HS256) whose subject is `operator` or `customer:REGION.USER`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..domain.errors import DomainError, NotFoundError
from ..domain.identifiers import Customer

OPERATOR = "operator"
AUDIENCE = "shop"


@dataclass(frozen=True)
class Caller:
    """Who calls.  `customer` is None for an operator."""

    subject: str
    customer: Customer | None

    @property
    def is_operator(self) -> bool:
        """Whether he may see and do everything."""
        return self.customer is None

    def must_be(self, customer: Customer, what: str = "order") -> None:
        """NotFoundError unless this is that customer or an operator: others do not learn that there is such a thing."""
        if self.customer is not None and self.customer != customer:
            raise NotFoundError(f"there is no such {what}")

    def region(self, regions: Sequence[str]) -> str:
        """Where what is the caller's own is kept."""
        return self.customer.region if self.customer else regions[0]


def issue(keys: Sequence[str], subject: str, seconds: float) -> str:
    """A token for `subject`."""
    now = int(time.time())
    claims = {"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + int(seconds)}
    return jwt.encode(claims, keys[0], algorithm="HS256")


def verify(keys: Sequence[str], token: str) -> Caller | None:
    """Who the token is for; None when it is not ours or has ended."""
    for key in keys:
        try:
            claims = jwt.decode(
                token, key, algorithms=["HS256"], audience=AUDIENCE, options={"require": ["exp", "sub", "aud"]}
            )
        except (jwt.InvalidTokenError, ValueError):
            continue
        subject = str(claims["sub"])
        if subject == OPERATOR:
            return Caller(subject, None)
        kind, _, customer = subject.partition(":")
        try:
            return Caller(subject, Customer.parse(customer)) if kind == "customer" else None
        except DomainError:
            return None
    return None


_bearer = HTTPBearer(auto_error=False)


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    caller = caller_of(request.app.state, credentials.credentials) if credentials is not None else None
    if caller is None:
        raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
    return caller


REMEMBERED, REMEMBERED_SECONDS = 10_000, 30.0


def caller_of(state: Any, token: str) -> Caller | None:
    """Who the token is for, by an app's state (`settings`, `known_tokens`); None when it is not ours or has ended.

    Verified again after half a minute at most: a token that comes often is not computed each time.
    """
    known: dict[str, tuple[float, Caller]] = state.known_tokens
    now = time.monotonic()
    if (found := known.get(token)) and found[0] > now:
        return found[1]
    if (caller := verify(state.settings.tokens.keys, token)) is not None:
        if len(known) >= REMEMBERED:
            known.clear()
        known[token] = (now + REMEMBERED_SECONDS, caller)
    return caller


async def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if not caller.is_operator:
        raise HTTPException(403, "an operator's token is needed")
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]
Operator = Annotated[Caller, Depends(_operator)]
