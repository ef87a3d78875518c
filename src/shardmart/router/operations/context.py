"""One command on its way through the router, and the table of the commands it serves.

Modules of commands register their handlers with `@command`; the client connection looks them up, checks access,
and calls them with a `Context`.  A handler returns the reply as a dict, or as the BSON a member answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import Binary, Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..protocol.peer import Peer
from ..routing.preference import PRIMARY, ReadPreference
from .authorization import Access

if TYPE_CHECKING:
    from .service import Service

Reply = dict[str, Any] | bytes
Handler = Callable[["Context"], Awaitable[Reply]]

# Fields of a client's command that the router answers for itself, and never forwards as they came.
_OWN_FIELDS = frozenset({
    "lsid", "$clusterTime", "$readPreference", "writeConcern", "readConcern", "$db", "$audit", "$client",
    "$configServerState", "$configTime", "$topologyTime", "shardVersion", "databaseVersion", "startTransaction",
    "autocommit", "txnNumber", "coordinator", "txnRetryCounter", "apiVersion", "apiStrict", "apiDeprecationErrors",
    "fromMongos", "needsMerge", "exchange", "mayBypassWriteBlocking", "isTimeseriesNamespace", "$queryOptions",
    "recoveryToken", "clientOperationKey", "allowImplicitCollectionCreation", "runtimeConstants",
    "legacyRuntimeConstants", "isClusterQueryWithoutShardKeyCmd", "$oplogQueryData", "$replData", "use44SortKeys",
    "internalTransaction", "term", "stmtId", "stmtIds", "documents", "updates", "deletes",
})  # fmt: skip
# The commands whose read concern may be another than "local"; getMore reads with that of its cursor.
_READS = frozenset({"find", "aggregate", "count", "distinct", "explain", "getMore"})
# What members add for each other, and mongos does not pass on.
_MEMBER_FIELDS = frozenset({
    b"lastCommittedOpTime", b"$configServerState", b"$gleStats", b"$configTime", b"$topologyTime", b"opTime",
    b"electionId", b"$replData", b"readOnly", b"additionalParticipants", b"$clusterTime",
})  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command of the table. `public`: before authentication; `transaction`: allowed inside one; `cancel`: may be
    interrupted when its client is gone."""

    name: str
    handler: Handler
    access: Access
    public: bool = False
    transaction: bool = False
    cancel: bool = False


COMMANDS: dict[str, Command] = {}


def command(*names: str, access: Access, **flags: bool) -> Callable[[Handler], Handler]:
    """Register a handler under `names`."""

    def register(handler: Handler) -> Handler:
        for name in names:
            assert name not in COMMANDS, name
            COMMANDS[name] = Command(name, handler, access, **flags)
        return handler

    return register


@dataclass
class Context:
    """A command: who sent it, what it says, and the service that answers it."""

    service: Service
    client: Peer
    message: wire.Message
    head: dict[str, Any] = field(init=False)
    name: str = field(init=False)
    db: str = field(init=False)
    joined: bool = False  # whether it was accepted as a statement of a transaction

    def __post_init__(self) -> None:
        self.head = rawbson.head(self.message.body)
        self.name = next(iter(self.head), "")
        database = self.head.get("$db", "admin")
        if (
            not isinstance(database, str)
            or not database
            or len(database.encode()) > 63
            or set(database) & set('/\\. "$\0')
        ):
            raise RouterError(Code.InvalidNamespace, f"Invalid database name: {database!r}")
        self.db = database
        for documents in ("documents", "updates", "deletes"):
            if documents in self.message.sequences and documents in self.head:
                raise RouterError(
                    Code.UnknownField, f"BSON field '{documents}' is in the body and in a document sequence"
                )

    @property
    def collection(self) -> str:
        """The collection the first field names; raises RouterError 73 when it names none."""
        value = self.head[self.name]
        if not isinstance(value, str) or not value or "\0" in value or "$" in value[:1] or value[0] == ".":
            raise RouterError(Code.InvalidNamespace, f"Invalid namespace specified '{self.db}.{value}'")
        return value

    @property
    def namespace(self) -> str:
        """ "database.collection"."""
        return f"{self.db}.{self.collection}"

    @property
    def in_transaction(self) -> bool:
        """Whether the command is a statement of a transaction."""
        return self.head.get("autocommit") is False

    @property
    def retryable(self) -> bool:
        """Whether the members recognise the command when they receive it twice (a retryable write)."""
        return "txnNumber" in self.head and not self.in_transaction

    def documents(self, name: str) -> list[bytes]:
        """The documents of an array field or document sequence, as BSON; raises RouterError 14."""
        if name in self.message.sequences:
            return self.message.sequences[name]
        values = self.head.get(name)
        if not isinstance(values, list) or not all(isinstance(value, RawBSONDocument) for value in values):
            raise RouterError(Code.TypeMismatch, f"BSON field '{self.name}.{name}' must be an array of documents")
        return [rawbson.raw(value) for value in values]

    def integer(self, name: str, default: int = 0, *, negative: bool = False) -> int:
        """A field that is a whole number; raises RouterError 14 for another type, 51024 for a negative one."""
        value = self.head.get(name, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            raise RouterError(Code.TypeMismatch, f"BSON field '{self.name}.{name}' must be a whole number")
        if value < 0 and not negative:
            code = Code.BadValue if name == "maxTimeMS" else Code.NegativeValue
            raise RouterError(code, f"BSON field '{name}' value must be >= 0, actual value '{value}'")
        return int(value)

    def options(self) -> dict[str, Any]:
        """The command's own fields, without its name, session, concerns, versions and batches."""
        return {k: v for k, v in self.head.items() if k not in _OWN_FIELDS and k != self.name}

    def session(self) -> dict[str, Any]:
        """`lsid` made the user's own, `txnNumber` of a retryable write, and the API version."""
        fields: dict[str, Any] = {}
        for name in ("apiVersion", "apiStrict", "apiDeprecationErrors"):
            if name in self.head:
                fields[name] = self.head[name]
        lsid = self.lsid()
        if lsid:
            fields["lsid"] = lsid
        if self.retryable:
            fields["txnNumber"] = Int64(self.head["txnNumber"])
        return fields

    def lsid(self) -> dict[str, Any] | None:
        """The session's id as members keep it: with the digest of the user, so that nobody uses another's session."""
        lsid = self.head.get("lsid")
        if not isinstance(lsid, RawBSONDocument) or not isinstance(lsid.get("id"), Binary):
            if lsid is not None:
                raise RouterError(Code.TypeMismatch, "BSON field 'lsid' must be a document with a UUID `id`")
            return None
        return {"id": lsid["id"], "uid": self.client.digest}

    def read_preference(self) -> ReadPreference:
        """The command's; primary when it says nothing."""
        given = self.head.get("$readPreference")
        return ReadPreference.parse(rawbson.decode(given)) if isinstance(given, RawBSONDocument) else PRIMARY

    def check_read_concern(self) -> None:
        """RouterError 72 for a level that the command does not have outside a transaction."""
        given = self.head.get("readConcern")
        level = given.get("level", "local") if isinstance(given, RawBSONDocument) else "local"
        if level == "local" or (self.name in _READS and (level != "snapshot" or self.name != "count")):
            return
        said = f'Command {self.name} does not support {{ readConcern: {{ level: "{level}" }} }}'
        raise RouterError(Code.InvalidOptions, f"{said} :: caused by :: read concern not supported")

    async def read_concern(self) -> dict[str, Any]:
        """{"readConcern": ...}: the client's, else the cluster's default (shards have none of their own)."""
        given = self.head.get("readConcern")
        concern = rawbson.decode(given) if isinstance(given, RawBSONDocument) else {}
        if "level" not in concern and not self.in_transaction:
            concern = {**(await self.service.default_concerns())[0], **concern}
        if concern.get("level") == "snapshot" and "atClusterTime" not in concern and self.service.clock.latest:
            concern["atClusterTime"] = self.service.clock.latest
            concern.pop("afterClusterTime", None)
        return {"readConcern": concern} if concern else {}

    async def write_concern(self) -> dict[str, Any]:
        """{"writeConcern": ...}: the client's, else the cluster's default (shards have none of their own)."""
        given = self.head.get("writeConcern")
        if isinstance(given, RawBSONDocument) and "w" in given:
            concern = rawbson.decode(given)
            if concern.get("w") == 0:
                concern["w"] = 1  # the outcome is awaited here even when the client does not want to know it
            return {"writeConcern": concern}
        extra = rawbson.decode(given) if isinstance(given, RawBSONDocument) else {}
        return {"writeConcern": {**(await self.service.default_concerns())[1], **extra}}


def clean(reply: bytes, gossip: dict[str, Any]) -> bytes:
    """A member's reply as the client gets it: without what members tell each other, with the router's cluster time."""
    return rawbson.without(reply, _MEMBER_FIELDS, rawbson.encode(gossip) if gossip else b"")
