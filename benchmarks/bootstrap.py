"""How long the default cluster takes: from the first mongod to the first acknowledged majority write, and `make up`.

Run by `make bench`.  Starts from an empty state folder of its own on the ports of the default topology, so no other
embedded cluster may run.  Prints a Markdown table; every figure is measured in this run.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import command_line
import psutil
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from shardmart.platforms.state import State, StateError

ROOT = Path(__file__).parents[1]
RUNS = int(os.environ.get("RUNS", "3"))
PLAY = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/embedded"]


def play(state: State, *arguments: str) -> tuple[float, str]:
    """Seconds and output of one ansible-playbook."""
    begun = time.monotonic()
    done = subprocess.run(
        [*PLAY, *arguments], cwd=ROOT, env=environment(state), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - begun, done.stdout


def environment(state: State) -> dict[str, str]:
    binaries = os.environ.get("SHARDMART_BINARIES") or str(ROOT / ".shardmart" / "binaries")
    return os.environ | {"SHARDMART_STATE": str(state.folder), "SHARDMART_BINARIES": binaries}


def first_write(state: State, shards: int, found: dict[str, float]) -> None:
    """Poll until a majority write through the router is acknowledged with every shard added; note the time."""
    while "stop" not in found:
        try:
            with MongoClient(state.uri("admin"), serverSelectionTimeoutMS=300) as client:
                if len(client.admin.command("listShards")["shards"]) == shards:
                    collection = client.benchmark.get_collection("first", write_concern=WriteConcern("majority"))
                    collection.insert_one({"now": time.time()})
                    found["write"] = time.time()
                    return
        except (PyMongoError, StateError):
            pass
        time.sleep(0.02)


def members(state: State) -> list[psutil.Process]:
    """The running processes of the cluster, by their pid files."""
    return [psutil.Process(int(file.read_text())) for file in (state.folder / "run").glob("*.pid")]


def measure(folder: Path) -> dict[str, float]:
    """One run on an empty state folder: cold start, second run, memory."""
    state = State(folder)
    found: dict[str, float] = {}
    watcher = threading.Thread(target=first_write, args=(state, 2, found), daemon=True)
    watcher.start()
    try:
        up, _ = play(state, "site.yml")
        processes = members(state)
        begun = min(process.create_time() for process in processes)
        again, output = play(state, "site.yml")
        memory = sum(process.memory_info().rss for process in processes)
    finally:
        found["stop"] = 1
        play(state, "playbooks/destroy.yml", "-e", "destroy_data=true")
    changed = sum(int(n) for n in re.findall(r"changed=(\d+)", output))
    return {
        "first mongod to first majority write, both shards added (s)": found["write"] - begun,
        "`make up`, empty state folder, servers fetched before (s)": up,
        "`make up` again (s)": again,
        "changed tasks of the second `make up`": float(changed),
        "resident memory of all members and the router (GB)": memory / 1e9,
    }


def main() -> None:
    """Measure RUNS times and print the table."""
    command_line.parser(__doc__).parse_args()
    rows = []
    for number in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="shardmart-bench-") as folder:
            rows.append(measure(Path(folder) / "state"))
        print(f"run {number + 1} of {RUNS}: {json.dumps(rows[-1])}", file=sys.stderr, flush=True)
    print(f"| default topology, {os.cpu_count()} cores, {RUNS} runs | median | worst |\n|---|---:|---:|")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"| {name} | {statistics.median(values):.3g} | {max(values):.3g} |")


if __name__ == "__main__":
    main()
