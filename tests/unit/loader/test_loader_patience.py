"""Trying again: what bounds an attempt, and what is said when the time is over."""

from __future__ import annotations

import pymongo.errors
import pytest

from shardmart.errors import RefusedError, UnreachableError
from shardmart.loader.patience import persist


def test_the_time_that_was_waited_is_said_not_the_one_that_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def slow(_: int) -> None:
        clock[0] += 20  # a router looks so long for a primary before it says that there is none
        raise pymongo.errors.AutoReconnect("no primary")

    with pytest.raises(UnreachableError, match=r"^orders 0 to 9: gave up after 20 s: no primary$"):
        persist(slow, "orders 0 to 9", seconds=3, notice=print)


def test_every_further_attempt_is_told_and_numbered() -> None:
    notices: list[str] = []

    def third(number: int) -> int:
        if number < 3:
            raise pymongo.errors.AutoReconnect("the primary is away")
        return number

    assert persist(third, "orders 0 to 9", seconds=60, notice=notices.append) == 3
    assert notices == [f"trying again, attempt {n}: the primary is away" for n in (2, 3)]


def test_what_waiting_does_not_mend_is_tried_once() -> None:
    tried: list[int] = []

    def refused(number: int) -> None:
        tried.append(number)
        raise pymongo.errors.OperationFailure("bad document", 121)

    with pytest.raises(RefusedError, match=r"^users 0 to 9: bad document"):
        persist(refused, "users 0 to 9", seconds=60, notice=print)
    assert tried == [1]
