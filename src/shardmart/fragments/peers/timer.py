"""The comparing repair again and again, and what every node remembers of the last ones.

One process anywhere is enough for all nodes, and two do no harm: the second is refused by the lock where they share a
file, else by the nodes.  It never gives up: a repair that fails is told, and the next one comes in its time.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shardmart.errors import RefusedError, ShardmartError

from ..configuration import Configuration, Node
from ..connection import Connection, administrator, rows, scalar
from . import repair as repairs

TIMER, COMMAND = "timer", "command"
"""Who asked for a repair."""
LATE_INTERVALS = 3
"""A timer that has ended no repair for so many of its intervals, and a minute, is late."""
GRACE_SECONDS = 60.0

Say = Callable[[str], None]


def run(read: Callable[[], Configuration], every_seconds: float, stop: threading.Event, say: Say) -> None:
    """Repair every so many seconds until `stop`; say what was changed, and once what goes wrong.

    `read` gives the configuration, anew each time.
    """
    said = ""
    while True:
        line = _once(read, every_seconds)
        if line and line != said:
            say(line)
        said = line if line.startswith("not repaired") else ""
        if stop.wait(every_seconds):
            break
    with suppress(ShardmartError):
        _forget(read())


def _once(read: Callable[[], Configuration], every_seconds: float) -> str:
    """One repair; a line about it, empty where there is nothing to say."""
    try:
        configuration = read()
        started = time.monotonic()
        done = repairs.repair(configuration)
        note(configuration, done, TIMER, time.monotonic() - started, every_seconds)
    except ShardmartError as error:
        return f"not repaired: {error}"
    changes = "; ".join(done.changes)
    missing = [f"{name} does not answer" for name in done.away] + done.failed
    failed = f"not repaired everywhere: {'; '.join(missing)}" if missing else ""
    return "; ".join(part for part in (failed, changes) if part)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file; RefusedError while another process holds it.  The kernel gives it back, however that ends."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"{lock} is held by another timer of the repair: one is enough") from None
        yield
    finally:
        os.close(descriptor)


def note(
    configuration: Configuration,
    done: repairs.Repair,
    by: str,
    seconds: float,
    every_seconds: float | None = None,
) -> None:
    """Have every node that was repaired remember it."""
    statement = """INSERT INTO Customer_Region_Repairs VALUES (%s, DEFAULT, %s, %s, %s, %s)
        ON CONFLICT (started_by) DO UPDATE SET finished_at = excluded.finished_at, seconds = excluded.seconds,
            every_seconds = excluded.every_seconds, rows_different = excluded.rows_different,
            rows_written = excluded.rows_written"""
    for name in done.rows:
        with administrator(configuration, configuration.node(name)) as connection:
            values = (by, seconds, every_seconds, done.different, sum(done.rows.values()))
            connection.execute(statement.encode(), values)


def _forget(configuration: Configuration) -> None:
    """A timer that was stopped is missed by nobody."""
    for node in configuration.nodes:
        with suppress(ShardmartError), administrator(configuration, node) as connection:
            connection.execute("DELETE FROM Customer_Region_Repairs WHERE started_by = %s", (TIMER,))


def last(configuration: Configuration, nodes: Sequence[Node]) -> dict[str, dict[str, Any]]:
    """The last repair by each who asked for one, as these nodes remember them."""
    query = """SELECT started_by, extract(epoch FROM finished_at)::float8, seconds,
            extract(epoch FROM clock_timestamp() - finished_at)::float8, every_seconds, rows_different, rows_written
        FROM Customer_Region_Repairs"""
    found: dict[str, tuple[Any, ...]] = {}
    for node in nodes:
        with administrator(configuration, node) as connection:
            remembered = rows(connection, query) if _knows(connection) else []
        for by, *facts in remembered:
            if by not in found or facts[0] > found[by][0]:
                found[by] = tuple(facts)
    keys = ("seconds", "seconds_ago", "every_seconds", "rows_different", "rows_written")
    return {
        by: {"finished_at": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")}
        | dict(zip(keys, facts, strict=True))
        for by, (at, *facts) in sorted(found.items())
    }


def _knows(connection: Connection) -> bool:
    """Whether the table is there: `make fragments` of an earlier version did not make it."""
    return bool(scalar(connection, "SELECT to_regclass('customer_region_repairs') IS NOT NULL"))


def late(remembered: dict[str, dict[str, Any]]) -> str | None:
    """What is wrong with the timer, in a line; None while it is in time, or was never started."""
    timer = remembered.get(TIMER)
    if timer is None or timer["seconds_ago"] <= LATE_INTERVALS * timer["every_seconds"] + GRACE_SECONDS:
        return None
    every = f"it comes every {timer['every_seconds']:g} s"
    return f"the timer has ended no repair for {timer['seconds_ago']:.0f} s ({every}): `make fragments` starts it"
