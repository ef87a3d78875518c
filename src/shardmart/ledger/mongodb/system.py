"""MongoDB as a system of the ledger: one client with the run's write concern, and what stands behind its router."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shardmart.cluster.protocol.connection import Credentials, Tls, errors_in_one_line
from shardmart.errors import BadUseError
from shardmart.platforms.state import State, resolve_uri

from ..journal import Outcome
from ..system import Document, Examination, Target
from . import collections, members
from .outcome import classify

FINAL_READ_TIMEOUT_SECONDS = 60


class MongoSystem:
    """See `System`.  `client`, `write_concern` and `timeout_ms` are for the workloads' clients.

    `timeout_ms` bounds what `timeoutMS` does not reach: reads with read concern linearizable, commits.
    """

    on_shards: ClassVar = True

    def __init__(
        self,
        client: MongoClient[Document],
        database: str,
        write_concern: WriteConcern,
        timeout_ms: int,
        state: State | None = None,
    ) -> None:
        """`state` is the state folder of the cluster behind the router; None when nothing is known of it."""
        self.client = client
        self.database = database
        self.write_concern = write_concern
        self.timeout_ms = timeout_ms
        self._state = state

    @classmethod
    def connect(cls, target: Target) -> Self:
        """See `System`.  `timeoutMS` (client-side operation timeout) bounds every operation as a whole.

        Retries happen within it, each with the same transaction number, so a write happens once.
        """
        uri = resolve_uri(target.uri, target.uri_file, user="ledger", state=target.state)
        seconds = target.operation_seconds or FINAL_READ_TIMEOUT_SECONDS
        milliseconds = int(seconds * 1000)
        bound: dict[str, Any] = {"timeoutMS": milliseconds} if target.operation_seconds else {}
        try:
            client = MongoClient[Document](
                uri,
                appname="shardmart-ledger",
                retryWrites=True,
                retryReads=True,
                serverSelectionTimeoutMS=milliseconds,
                maxPoolSize=target.connections,
                **bound,
            )
        except (PyMongoError, ValueError) as error:  # its text may hold the password
            raise BadUseError(f"not a usable MongoDB connection string: {type(error).__name__}") from None
        concern = target.write_concern
        state = State.find(target.state)
        known = not (target.uri or target.uri_file) and state.describes_a_cluster()
        return cls(
            client,
            target.database,
            WriteConcern(int(concern) if concern.isdigit() else concern),
            milliseconds,
            state if known else None,
        )

    def collection(self, name: str, read_concern: str = "majority") -> Collection[Document]:
        """Collection `name` with the run's write concern, read from the primary."""
        return self.client[self.database].get_collection(
            name,
            write_concern=self.write_concern,
            read_concern=ReadConcern(read_concern),
            read_preference=ReadPreference.PRIMARY,
        )

    def close(self) -> None:
        """See `System`."""
        self.client.close()

    def version(self) -> str:
        """See `System`."""
        with errors_in_one_line():
            return str(self.client.server_info()["version"])

    def prepare(self, collections_: Mapping[str, Any]) -> None:
        """See `System`: collections sharded by the key each is given with."""
        with errors_in_one_line():
            collections.prepare(self.client, self.database, collections_)

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        """See `System`."""
        return classify(error) if isinstance(error, PyMongoError) else None

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        """See `System`: with read concern majority from the primaries, so that nothing can still be rolled back."""
        with errors_in_one_line():
            for document in self.collection(collection).find(collections.run_range(run)):
                document["_id"] = document["_id"].split(":", 1)[1]
                yield document

    def examine(self, wait_seconds: float | None) -> Examination:
        """See `System`: the members of every replica set, where a state folder says which there are."""
        if self._state is None:
            return Examination(notes=["the members behind the router were not looked at"])
        keyfile = Credentials(keyfile=self._state.keyfile, tls=Tls.trusting(self._state.authority))
        wait = members.WAIT_SECONDS if wait_seconds is None else wait_seconds
        with errors_in_one_line():
            return members.check(self._state.description(), keyfile, self.client, [self.database], wait)

    def clean(self, run: str | None) -> dict[str, int]:
        """See `System`."""
        with errors_in_one_line():
            return collections.clean(self.client, self.database, run)
