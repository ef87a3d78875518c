"""The nodes of a Redis Cluster: which has which slot, and each asked by itself and within its limit.

Every node is a part that may be away alone.  redis-py's own cluster client gives a batch one fate: with one node away
the answers of the others are lost (docs/decisions/165-each-node-of-the-cache-by-itself.md).  Nothing here knows stocks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError
from redis.exceptions import ConnectionError as NoConnectionError

from shardmart.errors import BadUseError

SLOTS = 16_384
REST_SECONDS = 1.0
"""A node that did not answer is not asked for so long, and the slots are looked up no more often."""
URL = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<user>[^:@/]*):(?P<password>[^@/]*)@)?(?P<nodes>[^@/]+)(?:/0?)?"
    r"(?:\?ssl_ca_certs=(?P<authority>[^&]+))?"
)


class Unanswered:
    """Stands where the answer of a node would be that is away, or refuses."""


UNANSWERED: Final = Unanswered()


class Question(NamedTuple):
    """A command that one node can answer: the key that decides which, and the whole command."""

    key: str
    words: tuple[Any, ...]


class Nodes:
    """A client of the cluster at `redis://USER:PASSWORD@HOST:PORT,HOST:PORT…`.  BadUseError.

    `rediss` speaks TLS, and `?ssl_ca_certs=FILE` is the authority that must have signed each node's certificate.
    """

    def __init__(self, url: str, seconds: float) -> None:
        found = URL.fullmatch(url)
        if found is None:
            raise BadUseError("`redis_url` of a cluster is redis://USER:PASSWORD@HOST:PORT,HOST:PORT,…")
        self._known = found["nodes"].split(",")
        self._options: dict[str, Any] = {
            "username": unquote(found["user"]) if found["user"] else None,
            "password": unquote(found["password"]) if found["password"] else None,
            "ssl": found["scheme"] == "rediss",
            "ssl_ca_certs": unquote(found["authority"]) if found["authority"] else None,
            "decode_responses": True,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            # Once and at once: a kept connection may have died with its server.  Silence is not repeated.
            "retry": Retry(NoBackoff(), 1, supported_errors=(NoConnectionError,)),
        }
        self._clients: dict[str, Any] = {}
        self._owners: list[str | None] = []
        self._rests: dict[str, float] = {}
        self._away: set[str] = set()
        self._looked, self._outdated = 0.0, True
        self.moves = 0
        """How often a slot was seen to have another owner than before, who may lack what the former one was told."""

    @property
    def is_whole(self) -> bool:
        """Whether every slot has an owner who answered when it was last asked."""
        return bool(self._owners) and None not in self._owners and not self._away & set(self._owners)

    def first_slots(self) -> list[int]:
        """The first slot of each owner."""
        first: dict[str, int] = {}
        for slot, owner in enumerate(self._owners):
            if owner is not None:
                first.setdefault(owner, slot)
        return list(first.values())

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        """The answers in this order, UNANSWERED where there is none.  Never longer than four times the limit."""
        await self.look()
        answers: list[Any] = [UNANSWERED] * len(questions)
        todo = {n: (self._owner(question.key), False) for n, question in enumerate(questions)}
        for _ in range(2):  # whom a node sends on is asked, and no third one
            groups: dict[str, list[tuple[int, bool]]] = defaultdict(list)
            for n, (address, asking) in todo.items():
                if address is not None:
                    groups[address].append((n, asking))
            told = await asyncio.gather(
                *(self._of_node(address, [(questions[n], asking) for n, asking in g]) for address, g in groups.items())
            )
            todo = {}
            for group, given in zip(groups.values(), told, strict=True):
                for (n, _), answer in zip(group, given, strict=True):
                    if isinstance(answer, MovedError | AskError):
                        todo[n] = (self._sent_on(answer), isinstance(answer, AskError))
                    elif isinstance(answer, Exception):
                        self._outdated = True
                    else:
                        answers[n] = answer
        return answers

    async def ping(self) -> bool:
        """Ask every owner; whether all answered and every slot has one."""
        await self.look()
        owners = {owner for owner in self._owners if owner is not None}
        await asyncio.gather(*(self._of_node(one, [(Question("", ("PING",)), False)]) for one in owners))
        return self.is_whole

    async def tell_one(self, *words: Any) -> None:
        """Give a command to whichever node takes it: what one is told to publish, all publish."""
        for address in self._awake(self._known):
            answer = (await self._of_node(address, [(Question("", words), False)]))[0]
            if not isinstance(answer, Exception | Unanswered):
                return

    async def look(self) -> None:
        """Learn which node has which slot, where that is not known or no more true."""
        now = time.monotonic()
        if not self._outdated or (self._looked and now - self._looked < REST_SECONDS):
            return
        self._looked, self._outdated = now, False
        awake = self._awake(self._known) or self._known
        told = await asyncio.gather(
            *(self._of_node(address, [(Question("", ("CLUSTER", "SLOTS")), False)]) for address in awake)
        )
        maps = [_owners(given[0]) for given in told if isinstance(given[0], list)]
        if not maps:
            self._outdated = True
            return
        # Of several opinions the fullest: a node that has just come back does not know the others yet.
        owners = max(maps, key=lambda one: SLOTS - one.count(None))
        self.moves += any(before not in (None, after) for before, after in zip(self._owners, owners, strict=False))
        self._owners = owners
        self._known += sorted({owner for owner in owners if owner is not None} - set(self._known))

    async def close(self) -> None:
        """Give back the connections."""
        for client in self._clients.values():
            await client.aclose()

    def _owner(self, key: str) -> str | None:
        return self._owners[key_slot(key.encode())] if self._owners else None

    def _sent_on(self, answer: MovedError | AskError) -> str:
        address = f"{answer.host}:{answer.port}"
        if isinstance(answer, MovedError):
            self._owners[answer.slot_id] = address
            self.moves, self._outdated = self.moves + 1, True
        return address

    def _awake(self, addresses: Iterable[str]) -> list[str]:
        now = time.monotonic()
        return [address for address in addresses if self._rests.get(address, 0.0) <= now]

    async def _of_node(self, address: str, asked: Sequence[tuple[Question, bool]]) -> list[Any]:
        """What one node says to each, errors as they are; it rests where it says nothing."""
        if not self._awake([address]):
            return [UNANSWERED] * len(asked)
        pipe = self._client(address).pipeline(transaction=False)
        for question, asking in asked:
            if asking:
                pipe.execute_command("ASKING")
            pipe.execute_command(*question.words)
        try:
            given = iter(await pipe.execute(raise_on_error=False))
        except (RedisError, OSError):
            self._rests[address] = time.monotonic() + REST_SECONDS
            self._away.add(address)
            self._outdated = True
            return [UNANSWERED] * len(asked)
        self._away.discard(address)
        found = []
        for _, asking in asked:
            if asking:
                next(given)
            found.append(next(given))
        return found

    def _client(self, address: str) -> Any:
        if address not in self._clients:
            host, _, port = address.rpartition(":")
            self._clients[address] = Redis(host=host.strip("[]"), port=int(port), **self._options)
        return self._clients[address]


def _owners(told: Sequence[Sequence[Any]]) -> list[str | None]:
    """The owner of each slot, of what CLUSTER SLOTS says: rows of first slot, last slot, primary, replicas."""
    owners: list[str | None] = [None] * SLOTS
    for first, last, primary, *_ in told:
        owners[int(first) : int(last) + 1] = [f"{primary[0]}:{primary[1]}"] * (int(last) - int(first) + 1)
    return owners


def tags(slots: Iterable[int]) -> Mapping[int, str]:
    """For each slot a word that lies in it."""
    wanted, n = set(slots), 0
    found: dict[int, str] = {}
    while len(found) < len(wanted):
        if (slot := key_slot(str(n).encode())) in wanted:
            found.setdefault(slot, str(n))
        n += 1
    return found
