"""Restart members one at a time, secondaries first, so that no replica set ever loses its majority.

A member that does not come back stops it: the others go on as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymongo.errors import OperationFailure, PyMongoError

from ..host.processes import Process, start, stop, wait_until_listening
from ..protocol import codes
from ..protocol.connection import Credentials, Deadline, connect, describe, hello, is_code
from .replica_set import unhealthy


def one_at_a_time(
    processes: Sequence[Process], sets: Mapping[str, Sequence[str]], credentials: Credentials, deadline: Deadline
) -> None:
    """Restart each process and wait until its set is whole again before the next one.

    `sets` gives, for a member's name, the addresses of its set; a process that is in no set (a router) is only
    awaited until it listens. `credentials` are the keyfile's. A member told to end hands over its primary role
    itself (SIGTERM steps down).
    """
    for process in sorted(processes, key=lambda process: _is_primary(process, credentials)):
        stop([process], wait_seconds=deadline.remaining)
        wait_until_listening(start([process]), deadline)
        if members := sets.get(process.name):
            _wait_until_whole(process.name, members, credentials, deadline)


def _is_primary(process: Process, credentials: Credentials) -> bool:
    try:
        return bool(hello(f"{process.host}:{process.port}", credentials.tls).get("isWritablePrimary"))
    except PyMongoError:
        return False


def _wait_until_whole(name: str, members: Sequence[str], credentials: Credentials, deadline: Deadline) -> None:
    while True:
        reason = "no primary"
        for address in members:
            try:
                with connect(address, credentials, timeout_seconds=2) as client:
                    status = client.admin.command("replSetGetStatus")
            except OperationFailure as error:
                if is_code(error, codes.NOT_YET_INITIALIZED):
                    return
                reason = describe(error)
            except PyMongoError as error:
                reason = describe(error)
            else:
                if status["myState"] == 1:
                    sick = unhealthy(status, members)
                    if not sick:
                        return
                    reason = ", ".join(f"{host} is {state}" for host, state in sick.items())
        deadline.pause(f"the replica set of {name} to be whole after its restart: {reason}")
