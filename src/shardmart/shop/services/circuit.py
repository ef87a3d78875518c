"""A circuit before a source: nobody waits longer than its limit, and a source that is away is asked again gently.

Closed, every question is asked.  After `FAILURES` in a row the circuit is open: questions end at once, unasked.  After
a pause it is half open: one question goes through as a probe, the others still end at once.  The probe's answer closes
it; its failure opens it for twice as long, up to `LONGEST_PAUSE_SECONDS`.  Nothing here knows what is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from ..ports import AwayError, StoreError

T = TypeVar("T")
CLOSED, HALF_OPEN, OPEN = "closed", "half-open", "open"
FAILURES = 2
"""One slow answer is no outage."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 5.0
logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who is told of a source: metrics."""

    def asked(self, source: str, seconds: float) -> None:
        """It was asked, and answered or failed after so long."""

    def became(self, source: str, state: str) -> None:
        """Its circuit is CLOSED, HALF_OPEN or OPEN from now on."""

    def missing(self, source: str) -> None:
        """An answer went out without its part."""


class Circuit:
    """The circuit of one source.  `seconds` is the time limit of a question; `clock` is in seconds."""

    def __init__(
        self, source: str, seconds: float, watcher: Watcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._seconds, self._watcher, self._clock = source, seconds, watcher, clock
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._again_at = 0.0
        self._left: set[asyncio.Future[Any]] = set()
        """Late questions, kept until they end."""
        self.state = CLOSED
        watcher.became(source, CLOSED)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to `question`; AwayError when it is not asked or late, else what it raises.

        A late question is left to end by itself: to cancel a driver in the middle would make the caller wait for that.
        """
        if self.state == HALF_OPEN or (self.state == OPEN and self._clock() < self._again_at):
            raise AwayError(f"{self._source} did not answer just now")
        if self.state == OPEN:
            self._become(HALF_OPEN)
        probing, begun = self.state == HALF_OPEN, self._clock()
        task = asyncio.ensure_future(question())
        try:
            answer = await self._awaited(task)
        except StoreError as error:
            self._failed(error)
            raise
        except (
            BaseException
        ):  # whoever asked went away, or the question is a mistake of ours: it says nothing of the source
            if probing:
                self._open()
            raise
        finally:
            self._watcher.asked(self._source, self._clock() - begun)
            if not task.done():
                self._left.add(task)
                task.add_done_callback(self._ended)
        self._answered()
        return answer

    async def _awaited(self, task: asyncio.Future[T]) -> T:
        done, _ = await asyncio.wait({task}, timeout=self._seconds)
        if not done:
            raise AwayError(f"no answer within {self._seconds:g} s")
        return task.result()

    def _answered(self) -> None:
        self._failures, self._pause = 0, FIRST_PAUSE_SECONDS
        if self.state != CLOSED:
            logger.info("a source is back", extra={"source": self._source})
            self._become(CLOSED)

    def _failed(self, error: StoreError) -> None:
        self._failures += 1
        if self.state == CLOSED and self._failures >= FAILURES:
            logger.warning("a source is away", extra={"source": self._source, "reason": str(error)})
            self._pause = FIRST_PAUSE_SECONDS
            self._open()
        elif self.state == HALF_OPEN:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._open()

    def _open(self) -> None:
        self._again_at = self._clock() + self._pause
        self._become(OPEN)

    def _become(self, state: str) -> None:
        self.state = state
        self._watcher.became(self._source, state)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # taken, or Python would report it as forgotten
