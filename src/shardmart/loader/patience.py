"""Trying again while a primary or a router is away, for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pymongo.errors import PyMongoError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from shardmart.errors import RefusedError, UnreachableError

from .failures import is_passing, reason

T = TypeVar("T")


def persist(attempt: Callable[[int], T], what: str, *, seconds: float, notice: Callable[[str], None]) -> T:
    """The result of `attempt(1)`, or of `attempt(2)` and so on while it raises what waiting may mend.

    `notice` gets a line before each further attempt; one that has begun is waited for.  Raises UnreachableError when
    `seconds` are over, RefusedError for what waiting does not mend; both name `what` was tried.
    """
    begun = time.monotonic()

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        notice(f"trying again, attempt {state.attempt_number + 1}: {reason(error)}")

    number = 0

    def numbered() -> T:
        nonlocal number
        number += 1
        return attempt(number)

    retrying = Retrying(
        stop=stop_after_delay(seconds),
        wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.2),
        retry=retry_if_exception(is_passing),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(numbered)
    except PyMongoError as error:
        if is_passing(error):
            raise UnreachableError(f"{what}: gave up after {time.monotonic() - begun:.0f} s: {reason(error)}") from None
        raise RefusedError(f"{what}: {reason(error)}") from None
