"""The shop as a `System`: connected to by what its state folder says, read when it has come to rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shardmart.cluster.protocol.connection import Deadline, errors_in_one_line
from shardmart.errors import BadUseError
from shardmart.platforms.state import State, StateError

from ..journal import Outcome
from ..system import Document, Examination, PrepareError, Target
from . import rules
from .http import HttpClient, RequestError
from .place import ShopPlace
from .relational import RelationalStores, is_relational
from .stores import Final, Stores

OPERATION_SECONDS = 30.0
POLL_SECONDS = 1.0
"""Between two looks at everything: who looks all the time keeps the shop from its work."""
REST_SECONDS = 180.0
"""How long the shop may take after the last operation until every order has ended.  The payment service waits up to
30 s between two attempts to ask the provider; and should nobody be left to end what an instance had begun that was
killed in a transaction, the server does so 60 to 90 s later (`transactionLifetimeLimitSeconds`)."""


class ShopSystem:
    """See `System`.  `http` and `place` are for the workload's clients."""

    on_shards: ClassVar = True

    def __init__(self, place: ShopPlace, seconds: float, rest_seconds: float) -> None:
        self.place = place
        self.http = HttpClient(seconds)
        self._client: MongoClient[Document] | None = None
        self.stores = RelationalStores(place, self.http) if is_relational(place.store_uri) else self._on_mongodb()
        self._rest_seconds = rest_seconds
        self._finals: dict[str, Final] = {}

    def _on_mongodb(self) -> Stores:
        try:
            self._client = MongoClient[Document](
                self.place.store_uri, appname="shardmart-ledger-shop", serverSelectionTimeoutMS=30_000, retryReads=True
            )
        except (PyMongoError, ValueError) as error:  # its text may hold the password
            raise BadUseError(f"not a usable MongoDB connection string: {type(error).__name__}") from None
        return Stores(self.place, self._client, self.http)

    @classmethod
    def connect(cls, target: Target) -> Self:
        """See `System`.  The services' addresses are the state folder's; a URI is the store's."""
        try:
            uri = target.uri or (target.uri_file.read_text().strip() if target.uri_file else None)
        except OSError as error:
            raise StateError(f"cannot read the URI file {target.uri_file}: {error.strerror}") from None
        rest = REST_SECONDS if target.rest_seconds is None else target.rest_seconds
        return cls(ShopPlace.of(State.find(target.state), uri), target.operation_seconds or OPERATION_SECONDS, rest)

    def close(self) -> None:
        """See `System`."""
        if self._client:
            self._client.close()

    def version(self) -> str:
        """See `System`: there is one version of the shop, this distribution's; the store behind it has its own."""
        if isinstance(self.stores, RelationalStores):
            return f"shop on {self.stores.version()}"
        assert self._client
        with errors_in_one_line():
            return f"shop on MongoDB {self._client.server_info()['version']}"

    def prepare(self, collections: Mapping[str, Any]) -> None:
        """See `System`: nothing is made; the services have to be there."""
        del collections
        for service in ("order", "inventory", "payment", "notification", "catalogue", "provider"):
            url = f"{self.place.urls[service]}/readyz"
            try:
                answer = self.http.until_answered("GET", url, self.place.token(None))
            except RequestError as error:
                raise PrepareError(f"{service} does not answer at {url}: {error}") from None
            if answer.status != 200:
                raise PrepareError(f"{service} is not ready: {url} answers {answer.words}")

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        """See `System`."""
        return (error.outcome, str(error)) if isinstance(error, RequestError) else None

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        """See `System`: as the shop at rest has it, or as it is after the time that it may take for that."""
        if run not in self._finals:
            self._finals[run] = self._at_rest(run)
        yield from self._finals[run][collection]

    def _at_rest(self, run: str) -> Final:
        deadline = Deadline(self._rest_seconds)
        with errors_in_one_line():
            while True:
                found = self.stores.read(run)
                if not any(rules.problems(found.__getitem__)) or not deadline.remaining:
                    return found
                time.sleep(min(POLL_SECONDS, deadline.remaining))

    def examine(self, wait_seconds: float | None) -> Examination:
        """See `System`: the cluster behind the store is the other workloads' to look at."""
        del wait_seconds
        return Examination()

    def clean(self, run: str | None) -> dict[str, int]:
        """See `System`: nothing, because an order of a run is an order like any other."""
        del run
        return {}
