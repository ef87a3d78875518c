"""Idempotency keys: the answer to a POST is stored in the transaction of its effect, and given again.

A key is its caller's.  It lies in the region that the caller belongs to, so the shard key is a function of caller and
key, and a key is unique over all shards.  Answers of 500 and above are not stored: the same request may be tried again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..domain.errors import DomainError
from ..ports import KeyInUseError, Store, StoredAnswer, Unit

MAXIMUM_LENGTH = 255


class KeyReusedError(Exception):
    """The key was used for another request."""


@dataclass(frozen=True)
class Request:
    """A request as its key knows it: whose it is, where the caller belongs, and what is asked for."""

    caller: str
    region: str
    key: str
    what: str
    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        """What the answer is stored under."""
        return hashlib.sha256(json.dumps([self.caller, self.key]).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """The same for the same request, whatever the order of its fields."""
        return hashlib.sha256(json.dumps([self.what, self.body], sort_keys=True).encode()).hexdigest()


Answer = tuple[int, Mapping[str, Any], Mapping[str, str]]
"""Status, JSON document, headers."""


async def once(store: Store, request: Request, work: Callable[[Unit], Awaitable[Answer]]) -> tuple[StoredAnswer, bool]:
    """The answer to the request, and whether it had been given before.

    Raises KeyReusedError for another request under the same key, KeyInUseError while the first is being handled.
    """

    async def both(unit: Unit) -> StoredAnswer:
        status, document, headers = await work(unit)
        answer = StoredAnswer(request.fingerprint, status, json.dumps(document), headers)
        await unit.store_answer(request.region, request.id, answer)
        return answer

    try:
        return await store.transact(both), False
    except (KeyInUseError, DomainError):
        # What is asked for again may be refused by now: its answer is the first one all the same.
        stored = await store.stored_answer(request.region, request.id)
        if stored is None:
            raise
    if stored.fingerprint != request.fingerprint:
        raise KeyReusedError
    return stored, True
