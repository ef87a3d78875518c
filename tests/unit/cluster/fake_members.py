"""Members of a replica set without a server: they hold configurations, elect whom they are told to, fail on demand."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from types import TracebackType
from typing import Any

from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from shardmart.cluster.protocol import codes

Document = dict[str, Any]


class FakeMembers:
    """Members by "host:port". `failures` holds, by command, the errors that its next calls end with, in order."""

    def __init__(self, *hosts: str) -> None:
        self.configurations: dict[str, Document | None] = dict.fromkeys(hosts)
        self.silent: set[str] = set()
        self.primary: str | None = None
        self.states: dict[str, tuple[str, float]] = {}
        self.commands: list[tuple[str, str]] = []
        self.failures: defaultdict[str, list[Exception]] = defaultdict(list)

    def hello(self, host: str, _tls: object = None, **_options: Any) -> Document:
        """What `protocol.connection.hello` returns."""
        if host in self.silent:
            raise ServerSelectionTimeoutError(f"{host} is silent")
        self.fail("hello")
        return {"isWritablePrimary": host == self.primary}

    def connect(self, host: str, _credentials: object = None, **_options: Any) -> FakeClient:
        """What `protocol.connection.connect` returns."""
        return FakeClient(self, host)

    def fail(self, command: str) -> None:
        if self.failures[command]:
            raise self.failures[command].pop(0)

    def spread(self, configuration: Document) -> None:
        """Every member that answers has this configuration, and is healthy."""
        for member in configuration["members"]:
            self.configurations[member["host"]] = deepcopy(configuration)
            self.states.setdefault(member["host"], ("SECONDARY", 1.0))


class FakeClient:
    """A direct connection to one member; also its own `admin` database."""

    def __init__(self, members: FakeMembers, host: str) -> None:
        self.members, self.host = members, host
        self.admin = self

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """Nothing to close."""

    def command(self, name: str, argument: Any = None) -> Document:
        members = self.members
        if name == "hello":
            return members.hello(self.host)
        if self.host in members.silent:
            raise ServerSelectionTimeoutError(f"{self.host} is silent")
        members.commands.append((self.host, name))
        members.fail(name)
        if name == "replSetGetConfig":
            if not members.configurations[self.host]:
                raise OperationFailure("no replset config has been received", codes.NOT_YET_INITIALIZED)
            return {"config": deepcopy(members.configurations[self.host])}
        if name in ("replSetInitiate", "replSetReconfig"):
            members.spread(argument)
        if name == "replSetStepUp":
            members.primary = self.host
        if name == "replSetGetStatus":
            states = members.states | {members.primary: ("PRIMARY", 1.0)}
            return {"members": [{"name": n, "stateStr": s, "health": h} for n, (s, h) in states.items()]}
        return {"ok": 1}
