"""What every request passes: bounds on its size and rate, text that is text, a trace, headers, a metric.

A body is read whole, and refused before any handler sees it if it is no JSON document or holds what stores understand
differently: NUL, halves of surrogate pairs, numbers that are not finite.
"""

from __future__ import annotations

import json
import logging
import re
import time
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..settings import Limits
from ..telemetry import TRACE, Telemetry, new_trace
from . import problems
from .tokens import caller_of

_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\0]")
_NO_BRACKETS = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[^][{}"]+', re.DOTALL)
"""What nests nothing: strings, one that has no end too, and all that is no bracket.  It never goes back."""
READING_COST = 0.02
"""What is read without a token (the catalogue) comes through one load balancer, and costs little."""
MAXIMUM_CALLERS = 10_000
MAXIMUM_DEPTH = 32
MAXIMUM_REMEMBERED = 500
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """The request does not come in: status and what to say."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Rates:
    """A bucket of requests for each caller: `burst` at once, `per_second` in the long run."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, caller: str, now: float, cost: float = 1.0) -> bool:
        """Whether one more, which counts as `cost`, comes in."""
        left, since = self._buckets.get(caller, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._per_second)
        if len(self._buckets) >= MAXIMUM_CALLERS and caller not in self._buckets:
            self._buckets.pop(next(iter(self._buckets)))
        allowed = left >= cost
        self._buckets[caller] = (left - cost if allowed else left, now)
        return allowed


class Remembered:
    """Answers that are the same for everybody who asks with the same words, for as long as they are fresh.

    Reading and checking the words of a busy page costs more than all the rest of it.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, bytes], tuple[float, str, Response]] = {}

    def remember(self, scope: Scope, answer: Response, until: float) -> None:
        """Give `answer` to the same request until then (monotonic seconds)."""
        if until <= time.monotonic():
            return
        if len(self._answers) >= MAXIMUM_REMEMBERED:
            self._answers.clear()
        self._answers[scope["path"], scope["query_string"]] = until, scope["route"].path, answer

    def find(self, scope: Scope) -> tuple[str, Response] | None:
        """The route and the answer to a request; None where it has to be made."""
        if scope["method"] != "GET":
            return None
        found = self._answers.get((scope["path"], scope["query_string"]))
        return found[1:] if found and found[0] > time.monotonic() else None


class Door:
    """ASGI middleware around a service."""

    def __init__(self, app: ASGIApp, limits: Limits, telemetry: Telemetry, state: Any) -> None:
        """`state` is the app's: `draining` says that connections are to end after their answer; it knows the tokens."""
        self._app, self._limits, self._telemetry, self._state = app, limits, telemetry, state
        self._rates = Rates(limits.requests_per_second, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, route = time.perf_counter(), 500, "none"
        headers: dict[bytes, bytes] = dict(scope["headers"])
        found = _TRACE_PARENT.fullmatch(headers.get(b"traceparent", b"").decode("latin-1"))
        token = TRACE.set(found[1] if found else new_trace())

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(message["headers"])]
            await send(message)

        try:
            try:
                body = await self._admit(scope, headers, receive)
            except RefusedError as refused:
                await problems.problem(refused.status, str(refused))(scope, receive, answer)
                return
            if known := self._state.remembered.find(scope):
                route, made = known
                await made(scope, receive, answer)
                return
            await self._app(scope, _replayed(body, receive), answer)
        except Exception:
            logger.exception("a request failed", extra={"path": scope.get("path", "")[:100]})
            if status == 500:
                await problems.problem(500, "something went wrong: the trace says where to look")(
                    scope, receive, answer
                )
        finally:
            TRACE.reset(token)
            self._telemetry.request(
                _method(scope), getattr(scope.get("route"), "path", route), status, time.perf_counter() - started
            )

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [*HEADERS, (b"trace-id", TRACE.get().encode())]
        if not any(name.lower() == b"cache-control" for name, _ in given):
            headers.append((b"cache-control", b"no-store"))
        if self._state.draining:
            headers.append((b"connection", b"close"))
        return headers

    def _who(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """The subject of a token that is good, else the address: what anybody may write into a header is no name."""
        address = str((scope.get("client") or ("unknown",))[0])
        if b"authorization" not in headers:
            return f"at {address}"
        scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
        caller = caller_of(self._state, token.strip()) if scheme.lower() == "bearer" else None
        return caller.subject if caller else f"nobody at {address}"

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The body, if the request may come in; RefusedError."""
        reading = b"authorization" not in headers and scope["method"] in ("GET", "HEAD")
        if not self._rates.allows(self._who(scope, headers), time.monotonic(), READING_COST if reading else 1.0):
            raise RefusedError(429, "too many requests of one caller")
        for part in (scope.get("raw_path", b""), scope.get("query_string", b"")):
            _must_be_text(part)
        for name_ in (b"idempotency-key", b"if-match"):
            if not headers.get(name_, b"").isascii():
                raise RefusedError(400, f"{name_.decode()} is not ASCII")
        body = await self._read(headers, receive)
        if body:
            if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
                raise RefusedError(415, "the body must be application/json")
            _must_be_json(body)
        return body

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        # What is longer than any limit is not even read as a number: Python refuses more than 4,300 digits.
        if not length.isdigit() or len(length) > 20 or int(length) > limit:
            raise RefusedError(413, f"a body has at most {limit} bytes")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the caller went away")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise RefusedError(413, f"a body has at most {limit} bytes")
            if not message.get("more_body"):
                return b"".join(parts)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS") else "other"


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _must_be_text(part: bytes) -> None:
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise RefusedError(400, "the address is not UTF-8") from None
    if "\0" in text:
        raise RefusedError(400, "the address holds NUL")


def _must_be_json(body: bytes) -> None:
    try:
        text = body.decode()
        must_be_flat(text)
        _must_be_plain(json.loads(text, parse_constant=_not_finite, parse_float=_finite))
    except ValueError as error:
        raise RefusedError(
            400, f"the body is not usable JSON: {str(error)[:100]}".encode("ascii", "replace").decode()
        ) from None


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError("a number is too large")
    return number


def is_plain(text: str) -> bool:
    """Whether every store can hold it: no NUL, no half of a surrogate pair."""
    return _SURROGATE_OR_NUL.search(text) is None


def must_be_flat(text: str) -> None:
    """ValueError for JSON that is nested deeper than `MAXIMUM_DEPTH`, before a parser runs out of stack in it.

    Whatever else runs there, a finalizer of the garbage collector too, would fail with it.
    """
    steps = (1 if bracket in "[{" else -1 for bracket in _NO_BRACKETS.sub("", text))
    if any(depth > MAXIMUM_DEPTH for depth in accumulate(steps)):
        raise ValueError("it is nested too deeply")


def _must_be_plain(value: Any) -> None:
    if isinstance(value, str):
        if not is_plain(value):
            raise ValueError("text holds NUL or half a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            _must_be_plain(key)
            _must_be_plain(item)
    elif isinstance(value, list):
        for item in value:
            _must_be_plain(item)
