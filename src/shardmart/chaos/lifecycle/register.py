"""The register starts faults: it writes the record, starts the guard, and waits until the fault is real.

A fault is held by a process of its own (`lifecycle.guard`), in its own session: it ends at its deadline whatever
happens to who asked for it.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterable

from shardmart.cluster.description import Node
from shardmart.errors import ShardmartError
from shardmart.platforms.platform import last_line

from ..errors import ChaosError, ImpossibleError
from ..faults import kinds
from ..targets.selectors import Targets
from . import records
from .heal import await_true, finish
from .records import BEGINNING, REFUSED, STARTING, Record

GUARD = (sys.executable, "-m", "shardmart.chaos.lifecycle.guard")
GUARD_SECONDS = 60
"""Time for the guard's Python to start on a busy machine; what the fault itself may take comes on top."""
MAXIMUM_SECONDS = 3600


def start(
    targets: Targets, kind: str, name: str, servers: Iterable[Node], duration_s: float, **parameters: object
) -> Record:
    """Start a fault and return once it is real.

    Raises ImpossibleError when it cannot be had here, ChaosError when it is refused by its guard or does not begin.
    """
    record = asked_for(targets, kind, name, servers, duration_s, **parameters)
    guard = start_guard(targets, record)
    fault_id, state = record.id, targets.state

    def decided() -> bool:
        return records.read(state, fault_id).status not in {STARTING, BEGINNING} or guard.poll() is not None

    await_true(decided, GUARD_SECONDS + kinds.kind_of(targets, kind).begin_seconds)
    record = records.read(state, fault_id)
    if record.status == REFUSED:
        raise ChaosError(f"{name}: {record.reason}")
    if record.status in {STARTING, BEGINNING}:
        raise ChaosError(f"{name}: {_given_up(targets, record, guard)}")
    return record


def asked_for(
    targets: Targets, kind: str, name: str, servers: Iterable[Node], duration_s: float, **parameters: object
) -> Record:
    """Write the record of a fault that no guard holds yet; ChaosError for what makes no sense."""
    chosen = list(servers)
    if not chosen:
        raise ChaosError(f"{name}: no server is selected")
    if not 0 < duration_s <= MAXIMUM_SECONDS:
        raise ChaosError(f"{name}: a fault lasts more than 0 and at most {MAXIMUM_SECONDS} s, not {duration_s:g}")
    if lacking := kinds.requirement(targets, kind):
        raise ImpossibleError(f"{name}: {lacking}")
    fault_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}-{uuid.uuid4().hex[:6]}"
    names = [server.name for server in chosen]
    record = Record(fault_id, kind, name, names, duration_s, parameters | {"id": fault_id})
    records.write(targets.state, record)
    return record


def start_guard(targets: Targets, record: Record) -> subprocess.Popen[bytes]:
    """Start the process that holds the fault of a record; what it says goes into a file beside the record."""
    state = targets.state
    with records.path(state, record.id).with_suffix(".log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603
            [*GUARD, "--state", str(state.folder), record.id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=kinds.environment(targets),
            start_new_session=True,  # a Ctrl-C or kill of the experimenter must not reach the guard
        )


def _given_up(targets: Targets, record: Record, guard: subprocess.Popen[bytes]) -> str:
    """Why a fault did not become real; whatever its guard has broken is undone, or the words say that it is not."""
    state = targets.state
    if guard.poll() is None:
        guard.kill()
        guard.wait()
        why = "its guard did not begin it in time"
    else:
        said = last_line(records.path(state, record.id).with_suffix(".log").read_bytes())
        why = f"its guard died: {said or 'without a word'}"
    try:
        finish(state, record.id, why)
    except ShardmartError as error:
        why += f"; it could not be undone ({error}): run `shardmart chaos heal`"
    return why
