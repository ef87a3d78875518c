"""Which errors are waited out, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import psutil
import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from shardmart.errors import UnreachableError
from shardmart.loader.batches import Batch, BatchWorker, Job, Tally, batches
from shardmart.loader.failures import is_passing, reason
from shardmart.loader.generation.dataset import Counts
from shardmart.loader.pool import Pool


def bulk(*codes: int, concern: bool = False) -> BulkWriteError:
    errors = [{"index": i, "code": code, "errmsg": f"error {code}"} for i, code in enumerate(codes)]
    concerns = [{"code": 64, "errmsg": "waiting for replication timed out"}] if concern else []
    return BulkWriteError({"writeErrors": errors, "writeConcernErrors": concerns, "nInserted": 0})


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NotPrimaryError("not primary"),
        NetworkTimeout("timed out"),
        ServerSelectionTimeoutError("no servers"),
        OperationFailure("stepping down", 189),
        OperationFailure("no primary", 133),
        OperationFailure("odd one", 424242, {"errorLabels": ["RetryableWriteError"]}),
        bulk(11000, 13388),
        bulk(11000, concern=True),
    ],
)
def test_waiting_mends_it(error: PyMongoError) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("Authentication failed", 18),
        OperationFailure("not authorized", 13),
        bulk(121),
        bulk(11000, 189, 121),
        PyMongoError("a bug"),
    ],
)
def test_waiting_does_not_mend_it(error: PyMongoError) -> None:
    assert not is_passing(error)


def test_a_reason_is_one_line_without_topology_and_password() -> None:
    told = reason(ServerSelectionTimeoutError("mongodb://u:pw@h:1: refused (configured timeouts: 1s), Topology <a\nb>"))
    assert told == "mongodb://h:1: refused"


def test_a_bulk_reason_names_the_error_that_is_not_a_duplicate() -> None:
    assert reason(bulk(11000, 121)) == "error 121 (code 121)"


def test_a_batch_that_waits_behind_a_failed_one_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Unlucky:
        def __init__(self, *_: object) -> None: ...

        def compare(self, batch: Batch, _: Batch | None) -> Tally:
            tried.append(batch.start)
            raise UnreachableError("the cluster is away")

    monkeypatch.setattr("shardmart.loader.pool.BatchWorker", Unlucky)
    job = Job("mongodb://unused", "shop", 1, Counts(), Decimal(1), ("APJ",))
    with Pool(job, workers=1) as pool, pytest.raises(UnreachableError):
        list(pool.run("compare", batches(Counts(users=50), "users", 10), lambda _: None, lambda: False))
    assert tried == [0]


def test_worker_killed_between_two_batches_is_named() -> None:
    job = Job("mongodb://unused", "shop", 1, Counts(users=40), Decimal(1), ("APJ",))
    few = list(batches(Counts(users=40), "users", 10))
    before = set(psutil.Process().children(recursive=True))
    with Pool(job, workers=2) as pool:
        assert len(list(pool.run("generate", few, lambda _: None, lambda: False))) == len(few)
        started = set(psutil.Process().children(recursive=True)) - before
        workers = [child for child in started if not child.children() and "forkserver" in " ".join(child.cmdline())]
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=10)
        with pytest.raises(UnreachableError, match="worker process was killed"):
            list(pool.run("generate", few, lambda _: None, lambda: False))


class Ambiguous(BatchWorker):
    """The first insert is done and not acknowledged; no majority has it yet when the batch is read again."""

    inserts = 0

    def _read(self, _: Batch) -> tuple[dict[bytes, bytes], int]:
        return {}, 0

    def _insert(self, _: Batch, documents: Sequence[object]) -> int:
        self.inserts += 1
        if self.inserts == 1:
            raise AutoReconnect("the primary is away")
        return len(documents)


def test_what_the_first_attempt_wrote_is_counted_as_written() -> None:
    worker = Ambiguous(Job("mongodb://unused", "shop", 1, Counts(users=10), Decimal(1), ("APJ",)), lambda _: None)
    try:
        tally = worker.write(Batch("users", 0, 10), look_first=False)
    finally:
        worker.close()
    assert (tally.written, tally.present, worker.inserts) == (10, 0, 2)
