"""How this process reaches members and routers: directly, or from a laptop to pods through the chart's toolbox.

Both ways only ask: nothing here writes.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bson import json_util
from bson.errors import InvalidBSON
from pymongo.errors import PyMongoError

from shardmart.cluster.protocol.connection import Credentials, Tls, connect
from shardmart.cluster.protocol.wire import say_hello
from shardmart.errors import ShardmartError
from shardmart.platforms.platform import last_words
from shardmart.platforms.state import State

from ..errors import ChaosError

START_SECONDS = 30
"""Time for `kubectl exec` and Python to start in the toolbox; both are quick unless the node is busy."""


class Access(Protocol):
    """Questions to one server, by its address "host:port"; None when it does not answer in time."""

    def hello(self, address: str, timeout_s: float) -> dict[str, Any] | None:
        """What the server says of itself, without authentication."""

    def command(self, address: str, command: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The answer to a command on `admin`, or on the database in its `$db`, asked as `__system`."""

    def connect_ms(self, address: str, timeout_s: float) -> float | None:
        """How long a TCP handshake takes, milliseconds."""


class DirectAccess:
    """From a machine or pod that can open connections to every server."""

    def __init__(self, state: State) -> None:
        authority = state.authority if state.describes_a_cluster() else None
        self._context = ssl.create_default_context(cafile=str(authority)) if authority else None
        self._credentials = Credentials(keyfile=state.keyfile, tls=Tls.trusting(authority))

    def hello(self, address: str, timeout_s: float) -> dict[str, Any] | None:
        """See Access."""
        try:
            return say_hello(address, timeout_s, self._context)
        except (OSError, struct.error, InvalidBSON):
            return None

    def command(self, address: str, command: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """See Access."""
        document = dict(command)
        database = document.pop("$db", "admin")
        try:
            with connect(address, self._credentials, timeout_seconds=timeout_s) as client:
                return dict(client[database].command(document))
        except PyMongoError:
            return None

    def connect_ms(self, address: str, timeout_s: float) -> float | None:
        """See Access."""
        started = time.perf_counter()
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=timeout_s).close()
        except OSError:
            return None
        return (time.perf_counter() - started) * 1000


class ToolboxAccess:
    """Through one long-lived `kubectl exec` into the toolbox, where an agent asks; times are measured there.

    Raises ChaosError when the toolbox cannot be reached.  A broken stream is opened again once per question.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def hello(self, address: str, timeout_s: float) -> dict[str, Any] | None:
        """See Access."""
        answer: dict[str, Any] | None = self._ask(timeout_s, "hello", address)
        return answer

    def command(self, address: str, command: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """See Access."""
        answer: dict[str, Any] | None = self._ask(timeout_s + 30, "command", address, dict(command), own=timeout_s)
        return answer

    def connect_ms(self, address: str, timeout_s: float) -> float | None:
        """See Access."""
        answer: float | None = self._ask(timeout_s, "connect_ms", address)
        return answer

    def close(self) -> None:
        """End the stream; the process in the toolbox ends with it."""
        with self._lock:
            self._close()

    def _ask(self, timeout_s: float, call: str, *arguments: object, own: float | None = None) -> Any:
        question = json_util.dumps({"call": call, "arguments": [*arguments, own or timeout_s]}).encode() + b"\n"
        with self._lock:
            for attempt in (1, 2):
                try:
                    process = self._open()
                    assert process.stdin
                    process.stdin.write(question)
                    process.stdin.flush()
                    return json_util.loads(self._line(timeout_s + 10))["answer"]
                except (OSError, ValueError, ShardmartError) as error:
                    reason = (last_words(self._process) if self._process else "") or str(error)
                    self._close()
                    if attempt == 2:
                        raise ChaosError(f"the toolbox does not answer: {reason}") from None
        raise AssertionError

    def _open(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._close()
            self._process = self._start()
            if json.loads(self._line(START_SECONDS)).get("event") != "ready":
                raise ChaosError("the agent did not start in the toolbox")
        return self._process

    def _line(self, seconds: float) -> bytes:
        """The next line of the process in the toolbox."""
        assert self._process
        assert self._process.stdout
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise ChaosError(f"waited {seconds:g} s for an answer")
            data = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not data:
                raise ChaosError("the stream ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _close(self) -> None:
        if self._process:
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream:
                    try:
                        stream.close()
                    except OSError:
                        continue
            self._process.kill()
            self._process.wait()
        self._process, self._buffer = None, b""
