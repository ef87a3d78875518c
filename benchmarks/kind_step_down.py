"""How long a replica set on Kubernetes is without a writable primary when the primary's pod is deleted.

    SHARDMART_STATE=.shardmart python benchmarks/kind_step_down.py [RUNS]

Needs the cluster that `site.yml` made on kind.  A writer in the toolbox pod sends majority writes through the router
one after another; the primary's pod is deleted with `kubectl`, as a drain or a rolling update would.  Prints a
Markdown table: "writable again" runs from the call of `kubectl delete` (its own start included) to the first write
that the next primary acknowledged; "pause" is the longest time between two acknowledged writes.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import command_line

from shardmart import platforms
from shardmart.platforms.kubernetes import KubernetesPlatform
from shardmart.platforms.platform import STOP_LINE, last_line
from shardmart.platforms.state import State

SET_POSITION = 0  # of the shard whose primary is deleted

WRITER = """
import json, os, sys, threading, time
from pathlib import Path
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError
from shardmart.platforms.state import State
state = State(Path("/state"))
client = MongoClient(state.uri("admin"), serverSelectionTimeoutMS=500)
shard = state.description().shards[%(position)d].name
client.drop_database("benchmark")
client.admin.command("enableSharding", "benchmark", primaryShard=shard)
writes = client.benchmark.get_collection("pause", write_concern=WriteConcern("majority", wtimeout=20000))
# A line, or the end of standard input, ends the writer: it must not outlive the benchmark in the pod.
threading.Thread(target=lambda: (sys.stdin.readline(), os._exit(0)), daemon=True).start()
while True:
    try:
        writes.insert_one({})
        print(json.dumps({"ok": time.time()}), flush=True)
    except PyMongoError as error:
        print(json.dumps({"error": str(error)[:150], "at": time.time()}), flush=True)
    time.sleep(0.005)
"""

PRIMARIES = """
import json
from pathlib import Path
from shardmart.cluster.converge import replica_set
from shardmart.cluster.protocol.connection import Credentials, Tls
from shardmart.platforms.state import State
state = State(Path("/state"))
shard = state.description().shards[%(position)d]
keyfile = Credentials(keyfile=state.keyfile, tls=Tls.trusting(state.authority))
address = replica_set.primary_of(shard.addresses, keyfile)
print(next((member.pod.name for member in shard.members if member.address == address), None))
"""


class Cluster:
    """The release that the state folder describes, through kubectl."""

    def __init__(self, state: State) -> None:
        platform = platforms.of(state)
        if not isinstance(platform, KubernetesPlatform):
            raise SystemExit(f"{platform.cluster.name} does not run on Kubernetes")
        self.platform = platform

    def kubectl(self, *arguments: str) -> str:
        """Output of kubectl in the release's namespace."""
        command, environment = self.platform.kubectl_command(*arguments), self.platform.environment()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"kubectl {arguments[0]}: {done.stderr}")
        return done.stdout

    def python(self, script: str) -> str:
        """Output of a script in the toolbox pod."""
        done = self.platform.run([self.platform.python, "-c", script], timeout_s=60)
        if done.returncode:
            raise SystemExit(f"in the toolbox: {last_line(done.stderr)}")
        return done.stdout.decode().strip()

    def primary_pod(self) -> str:
        """Name of the pod that is primary now; waits for one."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (pod := self.python(PRIMARIES % {"position": SET_POSITION})) != "None":
                return pod
        raise SystemExit("waited 120 s for a primary")

    def identity(self, pod: str) -> str:
        """The pod's uid; empty while there is none of that name."""
        return self.kubectl("get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")

    def wait_until_replaced(self, pod: str, identity: str) -> None:
        """Until another pod of this name is ready: with a second member away the set would have no majority."""
        deadline = time.monotonic() + 180
        while self.identity(pod) in ("", identity):
            if time.monotonic() > deadline:
                raise SystemExit(f"waited 180 s for another {pod}")
            time.sleep(0.2)
        self.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=180s")


class Writer:
    """The writer in the toolbox pod, and the moments at which its writes were acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.acknowledged: list[float] = []
        self.errors: list[dict[str, Any]] = []
        platform = cluster.platform
        self.process = platform.spawn([platform.python, "-u", "-c", WRITER % {"position": SET_POSITION}])
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            found = json.loads(line)
            if "ok" in found:
                self.acknowledged.append(found["ok"])
            else:
                self.errors.append(found)

    def stop(self) -> None:
        """End the writer in the pod."""
        assert self.process.stdin
        self.process.stdin.write(STOP_LINE)
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait_for_writes(self, count: int, seconds: float) -> None:
        """Until `count` more writes were acknowledged."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"waited {seconds} s for {count} acknowledged writes; errors: {self.errors[-3:]}")
            time.sleep(0.05)


def measure(cluster: Cluster, writer: Writer) -> tuple[float, float]:
    """One deletion: seconds until writable again, and the longest pause between two writes."""
    pod = cluster.primary_pod()
    identity = cluster.identity(pod)
    writer.wait_for_writes(20, 60)
    begun = time.time()
    cluster.kubectl("delete", "pod", pod, "--wait=false")
    while (after := cluster.primary_pod()) == pod:
        if time.time() - begun > 60:
            raise SystemExit(f"{pod} is still primary 60 s after it was deleted")
    writer.wait_for_writes(20, 60)
    moments = [moment for moment in writer.acknowledged if moment > begun - 1]
    pause, end = max((later - earlier, later) for earlier, later in itertools.pairwise(moments))
    print(f"{pod} -> {after}: writable again {end - begun:.2f} s, pause {pause:.2f} s", file=sys.stderr, flush=True)
    cluster.wait_until_replaced(pod, identity)
    return end - begun, pause


def main() -> None:
    """Measure deletions and print the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=10, help="deletions (default 10)")
    runs = parser.parse_args().runs
    cluster = Cluster(State.find())
    writer = Writer(cluster)
    try:
        writer.wait_for_writes(50, 90)
        found = [measure(cluster, writer) for _ in range(runs)]
    finally:
        writer.stop()
    cluster.python("""
from pathlib import Path
from pymongo import MongoClient
from shardmart.platforms.state import State
MongoClient(State(Path("/state")).uri("admin")).drop_database("benchmark")
""")
    print(
        f"| the primary's pod deleted, {runs} times, {os.cpu_count()} cores | median (s) | worst (s) |\n|---|---:|---:|"
    )
    for name, values in zip(("writable again", "pause of the writes"), zip(*found, strict=True), strict=True):
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")
    print(f"| election timeout, for comparison | {cluster.platform.cluster.election.timeout_ms / 1000:.0f} | |")


if __name__ == "__main__":
    main()
