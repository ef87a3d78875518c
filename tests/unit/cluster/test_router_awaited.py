"""How a router is awaited before anything is asked of it, and what it may answer until then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_router import FakeRouter
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from shardmart.cluster.converge import sharding
from shardmart.cluster.converge.sharding import PASSING_ERRORS, answers, wait_for_router
from shardmart.cluster.errors import ClusterError, DeadlineError
from shardmart.cluster.protocol import codes
from shardmart.cluster.protocol.connection import Credentials, Deadline

NOBODY = Credentials()


class Router:
    """Fails as it is told to, one error for each time that it is asked, and answers after that."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.refuses: Exception | None = None
        self.asked: list[str] = []
        self.timeouts: list[float] = []


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    made = Router()

    class Client(FakeRouter):
        def answer(self, database: str, command: dict[str, Any]) -> dict[str, Any]:
            made.asked += command
            if made.errors:
                raise made.errors.pop(0)
            return super().answer(database, command)

    @contextmanager
    def connect(address: str, credentials: Credentials, *, timeout_seconds: float) -> Iterator[FakeRouter]:
        assert (address, credentials) == ("r:1", NOBODY)
        if made.refuses:
            raise made.refuses
        made.timeouts.append(timeout_seconds)
        yield Client()

    monkeypatch.setattr(sharding, "connect", connect)
    monkeypatch.setattr(Deadline, "pause", _without_sleep)
    return made


def _without_sleep(self: Deadline, awaited: str) -> None:
    if self.remaining <= 0:
        raise DeadlineError(f"waited for {awaited}")


PASSING: list[PyMongoError] = [AutoReconnect("away"), *(OperationFailure("?", code) for code in PASSING_ERRORS)]


def test_router_that_answers_is_asked_once_for_what_it_has_from_the_config_servers(router: Router) -> None:
    wait_for_router("r:1", NOBODY, Deadline(5))
    assert router.asked == ["listShards"]


def test_router_is_asked_again_while_its_failure_may_pass(router: Router) -> None:
    router.errors = list(PASSING)
    wait_for_router("r:1", NOBODY, Deadline(5))
    assert len(router.asked) == len(PASSING) + 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AutoReconnect("away"), "router r:1 to answer: away"),
        (OperationFailure("no config", PASSING_ERRORS[0]), "router r:1 to reach the config servers: no config"),
    ],
)
def test_router_is_awaited_until_the_deadline_and_its_last_words_are_told(
    router: Router, error: PyMongoError, words: str
) -> None:
    router.errors = [error] * 3
    with pytest.raises(DeadlineError, match=f"waited for {words}"):
        wait_for_router("r:1", NOBODY, Deadline(0))


def test_router_that_refuses_the_login_is_not_awaited(router: Router) -> None:
    router.errors = [OperationFailure("no such user", codes.UNAUTHORIZED)]
    with pytest.raises(ClusterError, match="router r:1: no such user"):
        wait_for_router("r:1", NOBODY, Deadline(5))
    assert router.asked == ["listShards"]


@pytest.mark.parametrize(("left", "least", "most"), [(100, 10, 10), (4, 4.5, 5), (0, 0.5, 1)])
def test_one_try_takes_no_longer_than_the_deadline_and_a_second(
    router: Router, left: float, least: float, most: float
) -> None:
    wait_for_router("r:1", NOBODY, Deadline(left))
    (timeout,) = router.timeouts
    assert least <= timeout <= most


@pytest.mark.parametrize("error", [*PASSING[:2], OperationFailure("no such user", codes.UNAUTHORIZED)])
def test_router_that_errs_does_not_answer_now(router: Router, error: PyMongoError) -> None:
    assert answers("r:1", NOBODY)
    router.errors = [error]
    assert not answers("r:1", NOBODY)
    assert len(router.asked) == 2


def test_router_whose_certificate_is_missing_does_not_answer_now(router: Router) -> None:
    router.refuses = ClusterError("no such file")
    assert not answers("r:1", NOBODY)
