"""A replica set as the router sees it: who is in it, who is the primary, and how to run a command there.

Nothing is polled while nobody asks: the primary is looked for when a command needs it and none is known, by
`hello` to every member at once; the answer of one is taken however long others are silent.  Source: MongoDB 6.0
manual, "hello", and the drivers' specification "Server Discovery and Monitoring".
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..protocol import rawbson, wire
from ..protocol.errors import NOT_PRIMARY, RETRYABLE, Code, MemberUnreachableError, RouterError, failure
from .member import Credentials, Member
from .preference import PRIMARY_PREFERRED, ReadPreference

FIND_PRIMARY_SECONDS = 20.0
HELLO_SECONDS = 2.0
DISCOVERY_SECONDS = 10.0  # what is known of members may be so old when one is chosen to read from
_ONE = struct.pack("<d", 1.0)
# The member refused before doing anything, so that even a write that is not retryable may be sent again.
_NOT_EXECUTED = frozenset({Code.NotWritablePrimary, Code.NotPrimaryNoSecondaryOk, Code.LegacyNotPrimary})


def error_of(reply: wire.Message) -> dict[str, Any] | None:
    """The decoded reply when it says `ok: 0`, else None; cheap when all is well."""
    element = reply.elements.get(b"ok")
    if element and (reply.body[element[1] : element[2]] == _ONE or rawbson.value_of(reply.body, element) == 1):
        return None
    return rawbson.decode(reply.body)


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
        if self._primary is None and not await self._found(lambda: self._primary is not None, seconds):
            raise RouterError(
                Code.FailedToSatisfyReadPreference,
                f'Could not find host matching read preference {{ mode: "primary" }} for set {self.name}'
                f" (asked {', '.join(sorted(self.members))})",
            )
        assert self._primary is not None
        return self._primary

    async def readable(self, preference: ReadPreference, seconds: float = FIND_PRIMARY_SECONDS) -> Member:
        """A member that `preference` allows; raises RouterError 133."""
        if preference.mode == "primary":
            return await self.primary(seconds)
        if time.monotonic() - self._last_discovery > DISCOVERY_SECONDS:
            self.discover()
            await self._settled(0.05)
        if not self._select(preference) and not await self._found(lambda: bool(self._select(preference)), seconds):
            message = (
                f'Could not find host matching read preference {{ mode: "{preference.mode}" }} for set {self.name}'
            )
            raise RouterError(Code.FailedToSatisfyReadPreference, message)
        member = self._select(preference)
        assert member is not None
        return member

    async def _found(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Ask round after round until `condition` holds: as soon as a member's answer makes it hold, not later."""
        began = time.monotonic()
        deadline = began + seconds
        while not condition():
            if time.monotonic() >= deadline:
                return False
            if time.monotonic() > began + 3:
                self._rank = (0, 0)  # nobody newer than the last primary came: believe whoever says that it is one
            self.discover()
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), min(HELLO_SECONDS, max(0.01, deadline - time.monotonic())))
            if not condition():
                await asyncio.sleep(0.05 + random.random() * 0.05)  # noqa: S311  # only spreads the load
        return True

    async def _settled(self, seconds: float) -> None:
        """Wait until all that are being asked have answered, or for `seconds`."""
        if self._asking:
            await asyncio.wait(set(self._asking.values()), timeout=seconds)

    def _select(self, preference: ReadPreference) -> Member | None:
        mode = preference.mode
        if mode == "primaryPreferred" and self._primary:
            return self._primary
        newest = min((s.behind for s in self.states.values()), default=0.0)
        candidates = {
            a: s
            for a, s in self.states.items()
            if (s.secondary or (s.primary and mode == "nearest"))
            and (not preference.max_staleness or s.behind - newest + DISCOVERY_SECONDS <= preference.max_staleness)
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
                task = self._asking[member.address] = asyncio.ensure_future(self._hello(member))
                task.add_done_callback(functools.partial(self._answered, member.address))

    def _answered(self, address: str, _: asyncio.Task[None]) -> None:
        self._asking.pop(address, None)

    async def _hello(self, member: Member) -> None:
        started = time.monotonic()
        try:
            reply = await member.command({"hello": 1, "$db": "admin"}, HELLO_SECONDS)
        except RouterError:
            self.failed(member)
        else:
            self._learn(member, reply, time.monotonic() - started)
        self._heard.set()

    def _learn(self, member: Member, reply: dict[str, Any], seconds: float) -> None:
        """Take what `hello` of a member says."""
        if reply.get("setName") != self.name:
            self.failed(member)
            return
        writable = bool(reply.get("isWritablePrimary"))
        written = reply.get("lastWrite", {}).get("lastWriteDate")
        self.states[member.address] = MemberState(
            writable,
            bool(reply.get("secondary")),
            dict(reply.get("tags", {})),
            seconds,
            time.time() - int(written) / 1000 if written else 0.0,
        )
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
            error_reply = error_of(reply)
            if error_reply is None:
                return member, reply
            code = error_reply.get("code")
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
        _, answer = await self.call_primary(wire.command(document), retryable=retryable, seconds=seconds)
        reply = rawbson.decode(answer.body)
        if reply.get("ok") != 1:
            raise failure(reply)
        return reply

    async def read(self, document: dict[str, Any], seconds: float = FIND_PRIMARY_SECONDS) -> dict[str, Any]:
        """Run a read on the primary, or on a secondary while there is none; raises RouterError."""
        document = {**document, "$readPreference": {"mode": "primaryPreferred"}}
        for _ in range(2):
            member = await self.readable(PRIMARY_PREFERRED, seconds)
            try:
                return await member.command(document, seconds)
            except RouterError as error:
                if error.code not in RETRYABLE:
                    raise
                self.failed(member)
        return await (await self.readable(PRIMARY_PREFERRED, seconds)).command(document, seconds)

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
