"""One command on its way through the router, and the table of the commands it serves.

Modules of commands register their handlers with `@command`; the client connection looks them up, checks access,
and calls them with a `Context`.  A handler returns the reply as a dict, or as the BSON a member answered.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bson import Binary, Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.replica_set import PRIMARY, ReadPreference
from .authorization import Access

if TYPE_CHECKING:
    from .service import Service

Reply = dict[str, Any] | bytes
NOBODY = Binary(hashlib.sha256(b"").digest())
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
_API = ("apiVersion", "apiStrict", "apiDeprecationErrors")
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

    handler: Handler
    access: Access
    public: bool = False
    transaction: bool = False
    cancel: bool = False


class Peer:
    """Who is at the other end of a client's connection: `digest` names its user to members."""

    def __init__(self) -> None:
        self.user: tuple[str, str] | None = None
        self.digest = NOBODY
        self.peer = ""  # its address
        self.running: Command | None = None
        self.transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Drop the connection."""
        if self.transport:
            self.transport.abort()


COMMANDS: dict[str, Command] = {}


def command(*names: str, access: Access, **flags: bool) -> Callable[[Handler], Handler]:
    """Register a handler under `names`."""

    def register(handler: Handler) -> Handler:
        for name in names:
            assert name not in COMMANDS, name
            COMMANDS[name] = Command(handler, access, **flags)
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
        named = isinstance(database, str) and 0 < len(database.encode()) < 64
        if not named or set(database) & set('/\\. "$\0'):
            raise RouterError(Code.InvalidNamespace, f"Invalid database name: {database!r}")
        self.db = database
        if twice := self.message.sequences.keys() & self.head.keys():
            raise RouterError(Code.UnknownField, f"BSON field '{min(twice)}' is in the body and in a document sequence")

    def with_fields(self, fields: dict[str, Any], db: str = "") -> Context:
        """A command of the same client, with other fields, as the same statement of its transaction."""
        body = {k: v for k, v in fields.items() if k != "$db"} | {"$db": db or self.db}
        return replace(self, message=wire.Message(self.message.request_id, 0, rawbson.encode(body)))

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

    def admin_only(self) -> None:
        """Raise RouterError 13 unless the command is for the database `admin`."""
        if self.db != "admin":
            raise RouterError(Code.Unauthorized, f"{self.name} may only be run against the admin database.")

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
        return [rawbson.raw(value) for value in self.array(name)]

    def array(self, name: str, of: type = RawBSONDocument) -> list[Any]:
        """An array field, its documents left as bytes; raises RouterError 14 when it holds anything else."""
        values = self.head.get(name)
        if not isinstance(values, list) or not all(isinstance(value, of) for value in values):
            kind = "documents" if of is RawBSONDocument else f"{of.__name__} values"
            raise RouterError(Code.TypeMismatch, f"BSON field '{self.name}.{name}' must be an array of {kind}")
        return values

    @functools.cached_property
    def stages(self) -> list[dict[str, Any]]:
        """The pipeline, decoded."""
        return [rawbson.decode(stage) for stage in self.array("pipeline")]

    def document(self, name: str) -> dict[str, Any]:
        """A field that is a document, decoded; empty when there is none."""
        value = self.head.get(name)
        return rawbson.decode(value) if isinstance(value, RawBSONDocument) else {}

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
        """`lsid` made the user's own, the number of its write or transaction, and outside those the API version."""
        kept = ("autocommit",) if self.in_transaction else _API
        fields: dict[str, Any] = {k: v for k, v in self.head.items() if k in kept}
        if lsid := self.lsid():
            fields["lsid"] = lsid
        if "txnNumber" in self.head:
            fields["txnNumber"] = Int64(self.head["txnNumber"])
        return fields

    def lsid(self) -> dict[str, Any] | None:
        """The session's id as members keep it: with the digest of the user, so that nobody uses another's session."""
        lsid = self.head.get("lsid")
        if lsid is None:
            return None
        if not isinstance(lsid, RawBSONDocument) or not isinstance(lsid.get("id"), Binary):
            raise RouterError(Code.TypeMismatch, "BSON field 'lsid' must be a document with a UUID `id`")
        return {"id": lsid["id"], "uid": self.client.digest}

    def read_preference(self) -> ReadPreference:
        """The command's; primary when it says nothing."""
        given = self.document("$readPreference")
        return ReadPreference.parse(given) if given else PRIMARY

    def check_read_concern(self) -> None:
        """RouterError 72 for a level that the command does not have outside a transaction."""
        level = self.document("readConcern").get("level", "local")
        if level == "local" or (self.name in _READS and (level != "snapshot" or self.name != "count")):
            return
        said = f'Command {self.name} does not support {{ readConcern: {{ level: "{level}" }} }}'
        raise RouterError(Code.InvalidOptions, f"{said} :: caused by :: read concern not supported")

    @property
    def of_snapshot(self) -> bool:
        """Whether a read outside a transaction is of one time: then the owners may have been others."""
        return not self.in_transaction and self.document("readConcern").get("level") == "snapshot"

    def read_concern(self) -> dict[str, Any]:
        """{"readConcern": ...}: the client's, else that of a 6.0 cluster (shards have none of their own)."""
        concern = ({} if self.in_transaction else {"level": "local"}) | self.document("readConcern")
        latest = self.service.clock.latest
        if concern.get("level") == "snapshot" and "atClusterTime" not in concern and latest:
            # One time for all shards, or the parts of the snapshot would not fit together.
            concern["atClusterTime"] = max(latest, concern.pop("afterClusterTime", latest))
        return {"readConcern": concern} if concern else {}

    def write_concern(self) -> dict[str, Any]:
        """{"writeConcern": ...}: the client's, else that of a 6.0 cluster; nothing in a transaction."""
        if self.in_transaction and self.name != "commitTransaction":
            return {}
        concern = {"w": "majority"} | self.document("writeConcern")
        if concern["w"] == 0:
            concern["w"] = 1  # the outcome is awaited here even when the client does not want to know it
        return {"writeConcern": concern}


def own(reply: wire.Message) -> dict[str, Any]:
    """A member's reply without what members tell each other."""
    return {k: v for k, v in reply.document.items() if k.encode() not in _MEMBER_FIELDS and k != "operationTime"}


def as_document(reply: Reply) -> dict[str, Any]:
    """A reply, whichever form it has."""
    return rawbson.decode(reply) if isinstance(reply, bytes) else reply


def clean(reply: bytes, gossip: dict[str, Any]) -> bytes:
    """A member's reply as the client gets it: without what members tell each other, with the router's cluster time."""
    return rawbson.without(reply, _MEMBER_FIELDS, rawbson.encode(gossip) if gossip else b"")
