"""A batch: a range of positions of one collection, written or compared with what the cluster holds.

Writing inserts what is missing and nothing else; it never
changes or removes a document.  Comparing reads the range back through the router, with read concern "majority" and
from the primaries, which leaves out orphans and what a failover could still roll back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from struct import Struct

import bson
from bson import ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shardmart.cluster.protocol.codes import DUPLICATE_KEY

from .connection import connect
from .generation.dataset import CHANGING_FIELDS, Counts, DataSet, Document
from .patience import persist

WRITE_CONCERN = WriteConcern("majority", wtimeout=30_000)
CHECKSUM_MODULUS = 2**128
SAMPLES = 3
"""Identifiers a batch names when something is wrong with it."""

_LENGTH = Struct("<i").unpack_from
_ID = slice(9, 21)
"""Where the ObjectId stands in a BSON document whose first field is `_id` (bsonspec.org): 4 + 1 + len("_id\\0")."""


@dataclass(frozen=True)
class Batch:
    """Positions [`start`, `stop`) of `collection`."""

    collection: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass
class Tally:
    """What became of documents; tallies add up."""

    written: int = 0
    present: int = 0
    """There already when we came."""
    missing: int = 0
    changed: int = 0
    """As loaded but for fields the shop changes (status, stock)."""
    different: int = 0
    doubled: int = 0
    """Further documents with an `_id` that was seen already, on another shard."""
    bytes: int = 0
    checksum: int = 0
    """Sum of the BLAKE2b-128 of every document as read back: the same for any batch size, order and worker count."""
    compared: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of `other`."""
        for name in ("written", "present", "missing", "changed", "different", "doubled", "bytes", "compared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.checksum = (self.checksum + other.checksum) % CHECKSUM_MODULUS
        self.samples = (self.samples + other.samples)[:SAMPLES]

    @property
    def clean(self) -> bool:
        """Whether every document compared is there once and is the right one."""
        return not (self.missing or self.different or self.doubled)


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know. Holds the password: it goes to workers through a pipe, never to a log."""

    uri: str
    database: str
    seed: int
    counts: Counts
    zipf: Decimal
    regions: tuple[str, ...]
    known_products: int = 0
    retry_seconds: float = 120

    def dataset(self) -> DataSet:
        """The data set this job loads."""
        return DataSet(self.seed, self.counts, self.zipf, self.regions, known_products=self.known_products)


def batches(counts: Counts, collection: str, size: int) -> Iterator[Batch]:
    """`collection` cut into batches of `size` documents, one at a time."""
    total = counts.of(collection)
    return (Batch(collection, start, min(start + size, total)) for start in range(0, total, size))


class BatchWorker:
    """Works on batches of one job, one after the other. Connects when the first batch needs it."""

    def __init__(self, job: Job, notice: Callable[[str], None] = lambda line: None) -> None:
        """`notice` takes a line for people when the cluster makes us wait."""
        self._job = job
        self._dataset = job.dataset()
        self._notice = notice
        self._client: MongoClient[Document] | None = None
        self._maker = ThreadPoolExecutor(1)
        self._ahead: dict[Batch, Future[list[Document]]] = {}

    def generate(self, batch: Batch) -> Tally:
        """Make the documents and throw them away (`--dry-run`)."""
        encoded = [bson.encode(d) for d in self._dataset.documents(batch.collection, batch.start, batch.stop)]
        return Tally(bytes=sum(map(len, encoded)), checksum=_checksum(encoded), compared=len(encoded))

    def write(self, batch: Batch, following: Batch | None = None, *, look_first: bool) -> Tally:
        """Insert what is missing. With `look_first` a batch that is all there is compared and nothing written.

        While the cluster works on it, the documents of `following`, this worker's next batch, are made.  Raises
        UnreachableError when the cluster does not take it within the job's retry time, RefusedError when it does not
        want the documents.
        """
        documents = self._made(batch, following)
        tally = Tally()
        before: set[bytes] | None = None if look_first else set()

        def attempt(number: int) -> None:
            nonlocal before, tally
            missing: Sequence[Document] = documents
            if before is None or number > 1:
                found, doubled = self._read(batch)
                missing = [document for document in documents if document["_id"].binary not in found]
                if before is None and not missing:
                    tally = self._judge(batch, [bson.encode(document) for document in documents], found, doubled)
                    tally.present = len(documents)
                    return
                before = set(found) if before is None else before
            duplicates = self._insert(batch, missing)
            # What came to be since the first attempt is ours, also where its acknowledgement was lost on the way, and
            # where it is not on a majority yet, so that it could not be read.
            present = sum(document["_id"].binary in before for document in documents)
            present += duplicates if number == 1 else 0
            tally = Tally(written=len(documents) - present, present=present)

        self._persist(attempt, batch)
        return tally

    def compare(self, batch: Batch, following: Batch | None = None) -> Tally:
        """Read the batch back and compare every byte. Raises UnreachableError like `write`."""
        expected = [bson.encode(document) for document in self._made(batch, following)]
        tally = Tally()

        def attempt(_: int) -> None:
            nonlocal tally
            tally = self._judge(batch, expected, *self._read(batch))

        self._persist(attempt, batch)
        return tally

    def close(self) -> None:
        """Close the connections."""
        self._maker.shutdown()
        if self._client:
            self._client.close()

    def _make(self, batch: Batch) -> list[Document]:
        return list(self._dataset.documents(batch.collection, batch.start, batch.stop))

    def _made(self, batch: Batch, following: Batch | None) -> list[Document]:
        """The documents of `batch`, made ahead if it was announced; starts making those of `following`."""
        ahead = self._ahead.pop(batch, None)
        documents = ahead.result() if ahead else self._make(batch)
        self._ahead.clear()
        if following:
            self._ahead[following] = self._maker.submit(self._make, following)
        return documents

    def _judge(self, batch: Batch, expected: list[bytes], found: dict[bytes, bytes], doubled: int) -> Tally:
        tally = Tally(doubled=doubled, compared=len(expected))
        there = []
        for raw in expected:
            actual = found.get(raw[_ID])
            if actual is None:
                tally.missing += 1
                self._sample(tally, batch, raw, "missing")
                continue
            there.append(actual)
            if actual != raw:
                self._weigh(tally, batch, raw, actual)
        if doubled:
            tally.samples.append(f"{batch.collection} {batch.start}..{batch.stop - 1}: {doubled} on two shards")
        tally.bytes = sum(map(len, there))
        tally.checksum = _checksum(there)
        return tally

    def _weigh(self, tally: Tally, batch: Batch, raw: bytes, actual: bytes) -> None:
        """Say whether a document that is not byte for byte the expected one is all the same right."""
        document = bson.decode(actual)
        if batch.collection == "orders":
            try:
                raw = bson.encode(self._dataset.order_of_any_catalogue(document))
            except (KeyError, TypeError, AttributeError):  # not even shaped like an order
                tally.different += 1
                self._sample(tally, batch, actual, "different")
                return
        if raw == actual:
            return
        fields = CHANGING_FIELDS[batch.collection]
        expected = {key: value for key, value in bson.decode(raw).items() if key not in fields}
        if expected == {key: value for key, value in document.items() if key not in fields}:
            tally.changed += 1
        else:
            tally.different += 1
            self._sample(tally, batch, actual, "different")

    @staticmethod
    def _sample(tally: Tally, batch: Batch, raw: bytes, what: str) -> None:
        if len(tally.samples) < SAMPLES:
            tally.samples.append(f"{batch.collection} {ObjectId(raw[_ID])}: {what}")

    def _collection(self, batch: Batch) -> Collection[Document]:
        if self._client is None:
            self._client = connect(self._job.uri)
        database = self._client.get_database(
            self._job.database, write_concern=WRITE_CONCERN, read_concern=ReadConcern("majority")
        )
        return database[batch.collection]

    def _read(self, batch: Batch) -> tuple[dict[bytes, bytes], int]:
        """The documents there, by the bytes of their `_id`, and how many more share an `_id`."""
        identifier = self._dataset.identifier
        bounds = {
            "$gte": identifier(batch.collection, batch.start),
            "$lt": identifier(batch.collection, batch.stop),
        }
        found: dict[bytes, bytes] = {}
        seen = 0
        # One reply for the batch: the default of 101 documents first would cost a second round trip.
        for chunk in self._collection(batch).find_raw_batches({"_id": bounds}, batch_size=len(batch) + 1):
            assert isinstance(chunk, bytes)  # PyMongo's annotation says it is a document
            position = 0
            while position < len(chunk):
                end = position + _LENGTH(chunk, position)[0]
                raw = chunk[position:end]
                found[raw[_ID]] = raw
                seen += 1
                position = end
        return found, seen - len(found)

    def _insert(self, batch: Batch, documents: Sequence[Document]) -> int:
        """Insert; returns how many were there already. A duplicate key is not an error: the other one is compared."""
        if not documents:
            return 0
        try:
            self._collection(batch).insert_many(documents, ordered=False)
        except BulkWriteError as error:
            details = error.details
            if details.get("writeConcernErrors") or any(e["code"] != DUPLICATE_KEY for e in details["writeErrors"]):
                raise
            return len(details["writeErrors"])
        return 0

    def _persist(self, attempt: Callable[[int], None], batch: Batch) -> None:
        where = f"{batch.collection} {batch.start:,} to {batch.stop - 1:,}"
        persist(attempt, where, seconds=self._job.retry_seconds, notice=self._notice)


def _checksum(documents: Sequence[bytes]) -> int:
    digest = hashlib.blake2b
    return sum(int.from_bytes(digest(d, digest_size=16).digest(), "big") for d in documents) % CHECKSUM_MODULUS
