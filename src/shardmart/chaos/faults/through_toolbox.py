"""Faults that a client of the database makes, held in the toolbox for an experimenter who cannot reach the servers."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import threading
import time
from typing import Any

from shardmart.platforms.platform import STOP_LINE, last_words

from ..errors import ChaosError
from ..targets.selectors import start_agent
from .database import ChunkMoves, Connections, Nothing, StepDowns
from .fault import Fault

GOING_SECONDS = 30


class ThroughToolbox(Fault):
    """A fault that needs only a way to the servers: the same class as on the embedded platform, run in the toolbox."""

    begin_seconds = 60  # `kubectl exec`, and Python in the pod, on a busy node
    _process: subprocess.Popen[bytes] | None = None
    _seen: dict[str, Any] | None = None

    def begin(self) -> None:
        """Start it there.  Its standard input is its stop button: it ends when this process does."""
        self._process = start_agent(self.targets.platform, "hold")
        orders = {
            "kind": self.kind,
            "servers": [server.name for server in self.servers],
            "duration_s": self.duration_s,
            "parameters": self.parameters,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"event": "died"}
        if answer["event"] != "started":
            self._process.stdin.close()
            self._process.wait(GOING_SECONDS)
            raise ChaosError(answer.get("reason") or last_words(self._process) or "the toolbox does not answer")
        self.parameters |= answer["parameters"] | {"via": "the toolbox"}

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """It holds itself; wait until it says what it saw."""
        assert self._process
        while not stop.wait(0.1) and self._process.poll() is None and time.monotonic() < deadline + GOING_SECONDS:
            continue

    def end(self) -> None:
        """End it and keep what it saw."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            longest = GOING_SECONDS + math.ceil(self.parameters.get("interval_s", 0))
            output, _ = process.communicate(STOP_LINE, timeout=longest)
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            return
        for line in output.splitlines():
            with contextlib.suppress(ValueError):
                self._seen = (self._seen or {}) | json.loads(line).get("evidence", {})

    def evidence(self) -> dict[str, Any]:
        """What it saw."""
        return self._seen or {}


def _through_toolbox(fault: type[Fault]) -> type[Fault]:
    return type(f"{fault.__name__}ThroughToolbox", (ThroughToolbox,), {"kind": fault.kind, "__doc__": fault.__doc__})


KINDS: dict[str, type[Fault]] = {
    fault.kind: _through_toolbox(fault) for fault in (Connections, StepDowns, ChunkMoves)
} | {Nothing.kind: Nothing}
