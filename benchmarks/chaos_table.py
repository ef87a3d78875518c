#!/usr/bin/env python3
"""One table of every chaos experiment, embedded and on kind: proof of fault, time without writes, what was
acknowledged, lost and doubled.

    python benchmarks/chaos_table.py --embedded STATE --kind STATE            # from the runs that are there
    python benchmarks/chaos_table.py --embedded STATE --run --times 1         # run every experiment first

Negative controls must fail; the table says so when they did.  Exit 1 if any other run failed, or a control passed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import command_line

from shardmart.chaos.report.table import Row, summarize

FOLDER = Path(__file__).parents[1] / "chaos"
LONG = {"soak"}
HEAD = [
    "experiment", "platform", "runs", "proof of fault (last run)", "without writes, median (s)", "worst (s)",
    "acknowledged", "lost", "doubled",
]  # fmt: skip


def run(state: Path, times: int, only: set[str]) -> None:
    """Run every experiment that the cluster can do, without those that take half an hour; each leaves its summary."""
    program = Path(sys.executable).with_name("shardmart")
    for path in sorted(FOLDER.glob("*.json")):
        if path.stem in only or (not only and path.stem not in LONG):
            command = [str(program), "chaos", "run", "--where-possible", "--times", str(times), str(path)]
            subprocess.run(command, env=os.environ | {"SHARDMART_STATE": str(state)}, stdout=sys.stderr, check=False)


def is_control(row: Row) -> bool:
    """Whether the experiment has to fail."""
    return row.title.startswith("Negative control")


def as_it_must(row: Row) -> bool:
    """Whether every run ended as it must."""
    return row.passed == (0 if is_control(row) else row.runs)


def cells(row: Row, platform: str) -> list[str]:
    """One line of the table."""
    runs = f"{row.passed}/{row.runs} passed"
    if is_control(row):
        runs = f"{row.runs - row.passed}/{row.runs} failed, as it must"
    seconds = ["-" if value is None else f"{value:.1f}" for value in (row.median_s, row.worst_s)]
    return [row.title, platform, runs, row.proof, *seconds, f"{row.acknowledged:,}", str(row.lost), str(row.doubled)]


def rows(folders: dict[str, Path]) -> Iterator[tuple[Row, str]]:
    """Every experiment of every platform, the same experiments beside each other."""
    found = [(row, platform) for platform, state in folders.items() for row in summarize(state / "chaos" / "runs")]
    return iter(sorted(found, key=lambda pair: (is_control(pair[0]), pair[0].title, pair[1])))


def main() -> int:
    """Run if asked to, then print the table in Markdown."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--embedded", type=Path, metavar="STATE", help="state folder of an embedded cluster")
    parser.add_argument("--kind", type=Path, metavar="STATE", help="state folder of a cluster on kind")
    parser.add_argument("--run", action="store_true", help="run every experiment first")
    parser.add_argument("--times", type=int, default=1, help="how often to run each (with --run)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this experiment (repeat)")
    arguments = parser.parse_args()
    folders = {"embedded": arguments.embedded, "kind": arguments.kind}
    folders = {platform: state for platform, state in folders.items() if state}
    if not folders:
        parser.error("give --embedded, --kind or both")
    if arguments.run:
        for state in folders.values():
            run(state, arguments.times, set(arguments.only))
    found = list(rows(folders))
    print(f"| {' | '.join(HEAD)} |\n|---|---|---|---|--:|--:|--:|--:|--:|")
    for row, platform in found:
        print(f"| {' | '.join(cells(row, platform))} |")
    return 0 if all(as_it_must(row) for row, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
