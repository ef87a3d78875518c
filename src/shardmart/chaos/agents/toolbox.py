"""What works in the toolbox pod for an experimenter outside, `python3 -m shardmart.chaos.agents.toolbox WORD`:

    answer      questions to servers, one line of JSON each
    observe     the ledger workload and the watcher of one experiment
    hold        a fault that needs only a way to the servers

Each ends when its standard input does, so that nothing outlives an experimenter that was killed; the last two also at a
line after their orders.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bson import json_util
from pymongo.errors import PyMongoError

from shardmart.errors import ShardmartError
from shardmart.ledger.metrics import METRICS_FILE
from shardmart.platforms.platform import last_line
from shardmart.platforms.state import State

from ..faults.database import KINDS
from ..observation.watcher import Watcher
from ..targets.selectors import Targets

TAIL_SECONDS = 0.2
STOP_SECONDS = 60

_output = threading.Lock()


def say(event: str, **details: object) -> None:
    """One line of JSON on standard output."""
    line = json.dumps({"event": event, **details})
    with _output:
        print(line, flush=True)


def answer(targets: Targets) -> None:
    """Answer questions until the end of standard input."""
    calls: dict[str, Callable[..., Any]] = {
        "hello": targets.access.hello,
        "command": targets.access.command,
        "connect_ms": targets.access.connect_ms,
    }
    say("ready")
    for line in sys.stdin:
        question = json_util.loads(line)
        found = calls[question["call"]](*question["arguments"])
        print(json_util.dumps({"answer": found}), flush=True)


def hold(targets: Targets) -> None:
    """Hold the fault described by the first line until its time is over, or the end of standard input."""
    orders = json.loads(sys.stdin.readline())
    servers = [targets.server(name) for name in orders["servers"]]
    fault = KINDS[orders["kind"]](targets, servers, float(orders["duration_s"]), orders["parameters"])
    stop = threading.Event()
    deadline = time.monotonic() + fault.duration_s
    try:
        fault.prepare()
        fault.begin()
        say("started", parameters=fault.parameters)
        threading.Thread(target=_until_told, args=(stop,), daemon=True).start()
        fault.hold(stop, deadline)
    except (ShardmartError, PyMongoError) as error:
        say("refused", reason=str(error))
    finally:
        fault.end()
    say("ended", evidence=fault.evidence())


def _until_told(stop: threading.Event) -> None:
    sys.stdin.readline()  # `platforms.platform.STOP_LINE`, or the end of input
    stop.set()


def observe(targets: Targets) -> None:
    """Run the ledger workload and watch, as the first line says; report everything in lines of JSON."""
    orders = json.loads(sys.stdin.readline())
    folder = Path(orders["folder"])
    folder.mkdir(parents=True)
    journal = folder / "ledger"
    stop = threading.Event()
    watcher = Watcher(
        targets, lambda beat: say("beat", **asdict(beat)), lambda election: say("election", **asdict(election))
    )
    if orders["watch"]:
        watcher.start()  # before the ledger: two clients that make one database at a time get in each other's way
    with (folder / "ledger.log").open("wb") as log:
        ledger = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "shardmart.ledger", "run", "--journal", str(journal), "--until-input-ends"),
                *_limit(),
                *orders["ledger"],
            ],
            stdin=subprocess.PIPE,  # closed with this process, however it ends
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        say("ready", at=time.time())
        threading.Thread(target=_until_told, args=(stop,), daemon=True).start()
        tail = _Tail(journal / METRICS_FILE)
        while not stop.wait(TAIL_SECONDS) and ledger.poll() is None:
            tail.report()
        if ledger.poll() is None:
            ledger.send_signal(signal.SIGTERM)
            ledger.wait(STOP_SECONDS)
        tail.report()
    finally:
        if ledger.poll() is None:
            ledger.kill()
        watcher.stop()
    said = last_line((folder / "ledger.log").read_bytes())
    say("over", exit_code=ledger.returncode, last=said, asked=stop.is_set())


def _limit() -> list[str]:
    """How large journals may become here: the check needs as much again, and so does the archive of both.

    A pod that writes more into its volume than that may have is evicted, and takes the journals with it.
    """
    scratch = os.environ.get("SHARDMART_SCRATCH_MB")
    return [f"--journal-mb={max(1, int(scratch) // 3)}"] if scratch else []


class _Tail:
    """Reports the whole lines that a file has got since the last time."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0

    def report(self) -> None:
        try:
            with self._file.open("rb") as lines:
                lines.seek(self._offset)
                text = lines.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            say("metrics", window=json.loads(line))


def main() -> int:
    """Do what the word says; 3 with one line on standard error when the cluster cannot be used."""
    parser = argparse.ArgumentParser(prog="shardmart.chaos.agents.toolbox", description=__doc__)
    words = {"answer": answer, "observe": observe, "hold": hold}
    parser.add_argument("word", choices=words)
    arguments = parser.parse_args()
    try:
        words[arguments.word](Targets(State.find()))
    except (ShardmartError, PyMongoError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
