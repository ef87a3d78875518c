"""Errors as problem documents (RFC 9457).  Nothing that went wrong inside is told, only where to look: the trace id."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..domain.errors import InvalidError, NotFoundError, StateError, VersionError
from ..ports import ConflictError, KeyInUseError, StoreError
from ..saga.idempotency import KeyReusedError
from ..telemetry import TRACE

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """An error, as every service answers it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    trace: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": http.HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 428, 429, 503)
}
"""What any endpoint may answer besides what it is for."""


def document(status: int, detail: str) -> bytes:
    """The problem document."""
    title = http.HTTPStatus(status).phrase
    return json.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "trace": TRACE.get()}
    ).encode()


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer."""
    more = dict(headers or {})
    if status in (429, 503) or (status == 409 and "being handled" in detail):
        more.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return Response(document(status, detail), status, more, MEDIA_TYPE)


def of(error: Exception) -> Response | None:
    """The answer to an expected error; None for one that nobody expected."""
    known: tuple[tuple[type[Exception], int], ...] = (
        (NotFoundError, 404),
        (InvalidError, 422),
        (VersionError, 412),
        (StateError, 409),
        (KeyInUseError, 409),
    )
    for kind, status in known:
        if isinstance(error, kind):
            return problem(status, str(error))
    if isinstance(error, KeyReusedError):
        return problem(422, "this Idempotency-Key was used for another request")
    if isinstance(error, ConflictError):
        return problem(503, "too many want to change the same thing: try again")
    if isinstance(error, StoreError):
        logger.warning("the store did not answer", extra={"reason": str(error)})
        return problem(503, "the store does not answer: try again with the same Idempotency-Key")
    return None


def _methods(app: FastAPI, request: Request) -> set[str]:
    """The methods that the request's path has."""
    matching = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""

    async def expected(_: Request, error: Exception) -> Response:
        if (answer := of(error)) is None:
            raise error
        return answer

    for kind in (NotFoundError, InvalidError, VersionError, StateError, StoreError, KeyReusedError):
        app.add_exception_handler(kind, expected)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework names the methods of the first route that it found
            headers["Allow"] = ", ".join(sorted(_methods(app, request)))
        return problem(error.status_code, str(error.detail), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        # Pydantic names its validators in the place, too: `function-after[…]` says nothing to a caller.
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        return problem(422, f"{where}: {first['msg']}"[:300].encode("ascii", "replace").decode())

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
