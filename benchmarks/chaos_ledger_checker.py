"""Memory and time of the ledger's checker against the number of operations: a Markdown table on standard output.

    python benchmarks/chaos_ledger_checker.py --operations 50000 500000 5000000

Each row writes a synthetic clean run (half orders, half list appends and reads), checks it in a process of its own,
and reports that process's peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import command_line

from shardmart.ledger import checker, final_state
from shardmart.ledger.journal import CLIENT_BITS, Run, journal_path

CLIENTS = 4
PER_KEY = 100


def write_run(folder: Path, operations: int) -> None:
    """A clean run of `operations` operations."""
    Run("bench", ("orders", "append"), "ledger", CLIENTS, 0, "majority", 0.0, 0).write(folder)
    share = operations // 2 // CLIENTS
    with final_state.path(folder, "orders").open("w") as orders, final_state.path(folder, "lists").open("w") as lists:
        for client in range(CLIENTS):
            base = client << CLIENT_BITS
            with journal_path(folder, "orders", client).open("w") as file:
                for n in range(share):
                    token, t = base | n, n * 1000
                    file.write(
                        f'{{"n":{n},"e":"invoke","t":{t},"f":"place","v":{{"order":{token},"user":1,"cents":5}}}}\n'
                        f'{{"n":{n},"e":"ok","t":{t + 500},"r":1}}\n'
                    )
                    orders.write(
                        f'{{"_id":"{token}","user_id":1,"total_cents":5,"status":"placed",'
                        f'"history":[{{"op":{token},"status":"placed"}}]}}\n'
                    )
            with journal_path(folder, "append", client).open("w") as file:
                items: list[int] = []
                key = client
                for n in range(share):
                    t, read = n * 1000, n % 3 == 2
                    if len(items) == PER_KEY:
                        lists.write(json.dumps({"_id": str(key), "items": items}) + "\n")
                        items, key = [], key + CLIENTS
                    result: object = 1
                    if read:
                        result = items
                    else:
                        items.append(base | n)
                    file.write(
                        f'{{"n":{n},"e":"invoke","t":{t},"f":"{"read" if read else "append"}","v":{{"key":{key}}}}}\n'
                        f'{{"n":{n},"e":"ok","t":{t + 500},"r":{json.dumps(result)}}}\n'
                    )
                lists.write(json.dumps({"_id": str(key), "items": items}) + "\n")


def main() -> None:
    """Print the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--operations", type=int, nargs="+", default=[50_000, 500_000, 5_000_000])
    parser.add_argument("--scratch", type=Path, help="where journals and staging go (default: the temporary folder)")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.check:
        started = time.monotonic()
        verdict = checker.check(arguments.check, arguments.scratch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([verdict.clean, verdict.total("ok"), time.monotonic() - started, peak]))
        return
    print(
        "| operations | journal (MB) | check (s) | operations/s | peak memory (MB) | verdict |\n"
        "|--:|--:|--:|--:|--:|---|"
    )
    for operations in arguments.operations:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as place:
            folder = Path(place) / "run"
            write_run(folder, operations)
            size = sum(path.stat().st_size for path in folder.glob("*-0*.jsonl")) / 1e6
            command = [sys.executable, __file__, "--check", str(folder)]
            if arguments.scratch:
                command += ["--scratch", str(arguments.scratch)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            clean, checked, seconds, peak = json.loads(done.stdout)
            print(
                f"| {checked:,} | {size:,.0f} | {seconds:.1f} | {checked / seconds:,.0f} | {peak:.0f} "
                f"| {'clean' if clean else 'NOT CLEAN'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
