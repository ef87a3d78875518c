"""A replica set as the router sees it: who is in it, who is the primary, which member a read may go to.

Nothing is polled while nobody asks: the primary is looked for when a command needs it and none is known, by
`hello` to every member at once; the answer of one is taken however long others are silent.  Source: MongoDB 6.0
manual, "hello", and the drivers' specification "Server Discovery and Monitoring".
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..protocol import wire
from ..protocol.errors import NOT_PRIMARY, RETRYABLE, Code, MemberUnreachableError, RouterError
from .member import Credentials, Member

T = TypeVar("T")
FIND_PRIMARY_SECONDS = 20.0
HELLO_SECONDS = 2.0
DISCOVERY_SECONDS = 10.0  # what is known of members may be so old when one is chosen to read from
# The member refused before doing anything, so that even a write that is not retryable may be sent again.
_NOT_EXECUTED = frozenset({Code.NotWritablePrimary, Code.NotPrimaryNoSecondaryOk, Code.LegacyNotPrimary})
LEAST_STALENESS_SECONDS = 90


@dataclass(frozen=True)
class ReadPreference:
    """Mode, tag sets, and how many seconds a secondary may be behind (0: as many as it likes)."""

    mode: str = "primary"
    tags: list[dict[str, str]] = field(default_factory=list)
    max_staleness: float = 0

    @classmethod
    def parse(cls, document: dict[str, Any]) -> ReadPreference:
        """What a client sent; RouterError 9, 14 or 160 as mongos gives them."""
        mode, tags = document.get("mode", "primary"), document.get("tags", [])
        staleness = document.get("maxStalenessSeconds", 0)
        if mode not in ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"):
            raise RouterError(Code.FailedToParse, f"unknown read preference mode {mode!r}")
        if not isinstance(tags, list) or not all(isinstance(tag_set, dict) for tag_set in tags):
            raise RouterError(Code.TypeMismatch, "$readPreference.tags must be an array of documents")
        if isinstance(staleness, bool) or not isinstance(staleness, int | float):
            raise RouterError(Code.TypeMismatch, "$readPreference.maxStalenessSeconds must be a number")
        staleness = max(staleness, 0)  # -1: no limit
        if staleness and mode == "primary":
            raise RouterError(Code.FailedToParse, "mode: primary is incompatible with maxStalenessSeconds")
        if 0 < staleness < LEAST_STALENESS_SECONDS:
            message = f"Parsing read preference: maxStalenessSeconds must be at least {LEAST_STALENESS_SECONDS}"
            raise RouterError(Code.MaxStalenessOutOfRange, message)
        return cls(mode, tags, staleness)

    @property
    def document(self) -> dict[str, Any]:
        """What a member is told: {"$readPreference": ...}; nothing for the primary."""
        tags = {"tags": self.tags} if self.tags else {}
        return {"$readPreference": {"mode": self.mode, **tags}} if self.mode != "primary" else {}


PRIMARY, PRIMARY_PREFERRED = ReadPreference(), ReadPreference("primaryPreferred")


@dataclass
class MemberState:
    """What `hello` of one member said."""

    primary: bool
    secondary: bool
    tags: dict[str, str]
    round_trip_seconds: float
    behind: float  # by how many seconds its last write is older than this machine's clock


class ReplicaSet:
    """Replica set `name`; `members` are shared between all parts of the router."""

    def __init__(self, name: str, seeds: list[str], credentials: Credentials) -> None:
        self.name = name
        self._credentials = credentials
        self.members = {address: Member(address, credentials) for address in seeds}
        self.states: dict[str, MemberState] = {}
        self._primary: Member | None = None
        self._rank: tuple[int, int] = (0, 0)  # election and version of the newest primary seen
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._heard = asyncio.Event()
        self._last_discovery = 0.0

    async def primary(self, seconds: float = FIND_PRIMARY_SECONDS) -> Member:
        """The writable primary; waits for one, and raises RouterError 133 when none shows up in time."""
        return await self._wait_for(lambda: self._primary, "primary", seconds)

    async def readable(self, preference: ReadPreference, seconds: float = FIND_PRIMARY_SECONDS) -> Member:
        """A member that `preference` allows; raises RouterError 133."""
        if preference.mode == "primary":
            return await self.primary(seconds)
        if time.monotonic() - self._last_discovery > DISCOVERY_SECONDS:
            self.discover()
            await self._settled(0.05)
        return await self._wait_for(lambda: self._select(preference), preference.mode, seconds)

    async def _wait_for(self, choose: Callable[[], Member | None], mode: str, seconds: float) -> Member:
        """Ask round after round until `choose` finds a member: as soon as one's answer makes it so, not later."""
        began = time.monotonic()
        deadline = began + seconds
        while (member := choose()) is None:
            if time.monotonic() >= deadline:
                message = f'Could not find host matching read preference {{ mode: "{mode}" }} for set {self.name}'
                asked = ", ".join(sorted(self.members))
                raise RouterError(Code.FailedToSatisfyReadPreference, f"{message} (asked {asked})")
            if time.monotonic() > began + 3:
                self._rank = (0, 0)  # nobody newer than the last primary came: believe whoever says that it is one
            self.discover()
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), min(HELLO_SECONDS, max(0.01, deadline - time.monotonic())))
            if choose() is None:
                await asyncio.sleep(0.05 + random.random() * 0.05)  # noqa: S311  # only spreads the load
        return member

    async def _settled(self, seconds: float) -> None:
        """Wait until all that are being asked have answered, or for `seconds`."""
        if self._asking:
            await asyncio.wait(set(self._asking.values()), timeout=seconds)

    def _select(self, preference: ReadPreference) -> Member | None:
        mode = preference.mode
        if mode == "primaryPreferred" and self._primary:
            return self._primary
        newest = min((s.behind for s in self.states.values()), default=0.0)
        oldest = newest + preference.max_staleness - DISCOVERY_SECONDS if preference.max_staleness else float("inf")
        candidates = {
            address: state
            for address, state in self.states.items()
            if (state.secondary or (state.primary and mode == "nearest")) and state.behind <= oldest
        }
        for tags in preference.tags or [{}]:
            matching = [a for a, s in candidates.items() if tags.items() <= s.tags.items()]
            if matching:
                fastest = min(candidates[a].round_trip_seconds for a in matching)
                near = [a for a in matching if candidates[a].round_trip_seconds <= fastest + 0.015]
                return self.members[random.choice(near)]  # noqa: S311  # only spreads the load
        return self._primary if mode == "secondaryPreferred" else None

    def failed(self, member: Member) -> None:
        """`member` did not answer, or answered that it is not the primary: look again before the next use."""
        if self._primary is member:
            self._primary = None
        self.states.pop(member.address, None)

    def discover(self) -> None:
        """Begin to ask every member who it is; one that has not answered yet is not asked twice."""
        self._last_discovery = time.monotonic()
        for member in list(self.members.values()):
            if member.address not in self._asking:
                self._asking[member.address] = asyncio.ensure_future(self._hello(member))

    async def _hello(self, member: Member) -> None:
        started = time.monotonic()
        try:
            reply = await member.command({"hello": 1, "$db": "admin"}, HELLO_SECONDS)
        except RouterError:
            self.failed(member)
        else:
            self._learn(member, reply, time.monotonic() - started)
        finally:
            self._asking.pop(member.address, None)
            self._heard.set()

    def _learn(self, member: Member, reply: dict[str, Any], seconds: float) -> None:
        """Take what `hello` of a member says."""
        if reply.get("setName") != self.name:
            self.failed(member)
            return
        writable = bool(reply.get("isWritablePrimary"))
        written = reply.get("lastWrite", {}).get("lastWriteDate")
        behind = time.time() - int(written) / 1000 if written else 0.0
        secondary = bool(reply.get("secondary"))
        self.states[member.address] = MemberState(writable, secondary, reply.get("tags", {}), seconds, behind)
        if writable:
            election = reply.get("electionId")
            rank = (int(str(election), 16) if election else 0, int(reply.get("setVersion", 0)))
            if rank >= self._rank:  # one of an older election has not heard of its successor yet
                self._rank, self._primary = rank, member
        elif self._primary is member:
            self._primary = None
        for address in [*reply.get("hosts", ()), *reply.get("passives", ())]:
            if address not in self.members:
                self.members[address] = Member(address, self._credentials)
                self.discover()

    async def call_primary(
        self, data: bytes, *, retryable: bool, seconds: float = FIND_PRIMARY_SECONDS
    ) -> tuple[Member, wire.Message]:
        """Send a message to the primary; returns the member that answered, and its answer.

        Waits up to `seconds` for a primary, each time one is looked for.  Sends again to the next primary when the
        first refused before doing anything; when the outcome is unknown, only if the message is `retryable`.
        Raises MemberUnreachableError or RouterError 133.
        """
        deadline = time.monotonic() + seconds
        while True:
            member = await self.primary(max(0.5, deadline - time.monotonic()))
            try:
                reply = await member.call(data)
            except MemberUnreachableError as error:
                self.failed(member)
                if (error.sent and not retryable) or time.monotonic() > deadline:
                    raise
                continue
            code = reply.document.get("code") if reply.refused else None
            if code not in NOT_PRIMARY:
                return member, reply
            self.failed(member)
            if (code not in _NOT_EXECUTED and not retryable) or time.monotonic() > deadline:
                return member, reply
            await asyncio.sleep(0.02)

    async def command(
        self, document: dict[str, Any], *, retryable: bool = True, seconds: float = FIND_PRIMARY_SECONDS
    ) -> dict[str, Any]:
        """Run a command on the primary, the whole reply as a dict; raises RouterError when it says `ok: 0`."""
        _, reply = await self.call_primary(wire.command(document), retryable=retryable, seconds=seconds)
        return wire.checked(reply).document

    async def on_readable(
        self, preference: ReadPreference, work: Callable[[Member], Awaitable[T]], seconds: float = FIND_PRIMARY_SECONDS
    ) -> T:
        """The result of `work` with a member that `preference` allows; where it does not answer, with another one.

        `seconds` to look for a member, each of three times.  Raises RouterError.
        """
        for attempt in range(3):
            member = await self.readable(preference, seconds)
            try:
                return await work(member)
            except RouterError as error:
                if error.code not in RETRYABLE:
                    raise
                self.failed(member)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def read(self, document: dict[str, Any], seconds: float = FIND_PRIMARY_SECONDS) -> dict[str, Any]:
        """Run a read on the primary, or on a secondary while there is none; raises RouterError."""
        document = document | PRIMARY_PREFERRED.document
        return await self.on_readable(PRIMARY_PREFERRED, lambda member: member.command(document, seconds), seconds)

    def close(self) -> None:
        """Close every connection."""
        for member in self.members.values():
            member.drop_connections()


def parse_connection_string(text: str) -> tuple[str, list[str]]:
    """("configReplSet", ["host:port", ...]) of `configReplSet/host:port,host:port`; raises ValueError."""
    name, slash, hosts = text.partition("/")
    addresses = [host.strip() for host in hosts.split(",") if host.strip()]
    if not name or not slash or not addresses:
        raise ValueError(f"expected SET/host:port,host:port, found {text!r}")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"expected host:port, found {address!r}")
    return name, addresses
