"""The journal survives the death of its writer, and is refused when it was changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shardmart.ledger.journal import JournalError, JournalWriter, Run, read

WRITER = """
import sys
from pathlib import Path
from shardmart.ledger.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), "orders", 0)
n = 0
while True:
    writer.invoke("place", {"order": n})
    writer.end("ok", 1)
    print(n, flush=True)
    n += 1
"""


def test_journal_is_complete_after_kill_9(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 500:
            break
    os.kill(writer.pid, signal.SIGKILL)
    said = [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    last_said = max(said, default=500)
    operations = list(read(tmp_path / "orders-0000.jsonl"))
    acknowledged = [o for o in operations if o.outcome == "ok"]
    assert len(acknowledged) > last_said
    assert all(o.outcome == "ok" for o in operations[:-1])


def test_operation_without_end_is_unknown(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "orders", 3)
    writer.invoke("place", {})
    writer.close()
    (operation,) = read(writer.path)
    assert (operation.outcome, operation.end, operation.token) == ("unknown", None, 3 << 40)


def test_torn_last_line_is_an_operation_without_end(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "orders", 0)
    writer.invoke("place", {})
    writer.end("ok", 1)
    writer.close()
    content = writer.path.read_bytes()
    writer.path.write_bytes(content[:-4])
    (operation,) = read(writer.path)
    assert operation.outcome == "unknown"


@pytest.mark.parametrize("line", [b"garbage\n", b'{"n":7,"e":"ok","t":1}\n'])
def test_changed_journal_is_refused_by_line(tmp_path: Path, line: bytes) -> None:
    writer = JournalWriter(tmp_path, "orders", 0)
    writer.invoke("place", {})
    writer.end("ok", 1)
    writer.close()
    with writer.path.open("ab") as file:
        file.write(line)
    with pytest.raises(JournalError, match="line 3"):
        list(read(writer.path))


def test_a_folder_takes_one_run(tmp_path: Path) -> None:
    run = Run("a", ("orders",), "ledger", 1, 0, "majority", 0.0, 0)
    run.write(tmp_path)
    assert Run.read(tmp_path) == run
    with pytest.raises(JournalError, match="already holds a run"):
        run.write(tmp_path)
