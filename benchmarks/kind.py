"""`site.yml` on kind: from no cluster to seeded and verified, a second run, and what the idle pods cost.

    python benchmarks/kind.py

Makes a kind cluster of its own (inventory kind-airgapped, the default topology) and removes it.  The images are built
before the clock starts.  CPU is the kubelet's own count (`pod_cpu_usage_seconds_total`) over one minute in which
nothing is asked of the cluster, probes running.  Prints a Markdown table; every figure is measured in this run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import command_line
import yaml

from shardmart.declare import versions

ROOT = Path(__file__).parents[1]
NAME = "shardmart-bench"
BIN = Path(sys.executable).parent
SETTLE_SECONDS, IDLE_SECONDS = 30, 60
SAMPLE = re.compile(r'^pod_cpu_usage_seconds_total\{namespace="([^"]+)",pod="([^"]+)"\} (\S+) (\d+)$', re.MULTILINE)


class Bench:
    """A state folder and a topology of the benchmark's own."""

    def __init__(self, folder: Path) -> None:
        self.topology = folder / "topology.yml"
        document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
        self.topology.write_text(yaml.safe_dump(document | {"name": NAME}))
        self.environment = os.environ | {
            "SHARDMART_STATE": str(folder / "state"),
            "KUBECONFIG": str(folder / "state" / "kubeconfig"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
        }

    def run(self, *command: str) -> str:
        """Output of a command; ends the benchmark with what it said when it fails."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def play(self, playbook: str, *arguments: str) -> tuple[float, str]:
        """Seconds and output of a playbook."""
        begun = time.monotonic()
        inventory = ("-i", "inventories/kind-airgapped", "-e", f"topology={self.topology}")
        output = self.run("ansible-playbook", *inventory, playbook, *arguments)
        return time.monotonic() - begun, output

    def cpu_seconds(self) -> dict[tuple[str, str], tuple[float, int]]:
        """CPU seconds so far of every pod, by namespace and name, and when the kubelet counted them (milliseconds)."""
        metrics = self.run("kubectl", "get", "--raw", f"/api/v1/nodes/{NAME}-control-plane/proxy/metrics/resource")
        return {(space, pod): (float(used), int(at)) for space, pod, used, at in SAMPLE.findall(metrics)}

    def idle_cores(self) -> dict[str, float]:
        """Cores that the pods of each namespace used in an idle minute."""
        time.sleep(SETTLE_SECONDS)  # what is measured is the cluster at rest
        first = self.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        cores: dict[str, float] = {}
        for (space, pod), (used, at) in self.cpu_seconds().items():
            if (space, pod) in first and at > first[space, pod][1]:
                spent, begun = first[space, pod]
                cores[space] = cores.get(space, 0) + (used - spent) / ((at - begun) / 1000)
        return cores


def main() -> None:
    """Measure once and print the table."""
    command_line.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="shardmart-bench-") as folder:
        bench = Bench(Path(folder))
        for image in ("database", "toolbox"):
            base = f"--build-arg=BASE={versions.load().images['airgapped_base']}"
            file = f"k8s/images/{image}/Dockerfile"
            bench.run("docker", "build", "--quiet", "--network=host", base, "--file", file, ".")
        bench.run("kind", "delete", "cluster", "--name", NAME)
        try:
            first, _ = bench.play("site.yml")
            print(f"first run: {first:.0f} s", file=sys.stderr, flush=True)
            second, output = bench.play("site.yml")
            print(f"second run: {second:.0f} s", file=sys.stderr, flush=True)
            cores = bench.idle_cores()
        finally:
            bench.run("kind", "delete", "cluster", "--name", NAME)
    changed = sum(int(number) for number in re.findall(r"changed=(\d+)", output))
    print(f"| kind-airgapped, one node, {os.cpu_count()} cores | measured | asked |\n|---|---:|---:|")
    print(f"| no cluster to seeded and verified, image builds cached | {first:.0f} s | 90 s |")
    print(f"| second run | {second:.0f} s | 25 s |")
    print(f"| changed tasks of the second run | {changed} | 0 |")
    print(f"| idle CPU of all pods of the release, probes on | {cores.get(NAME, 0):.2f} cores | 0.25 cores |")
    print(f"| idle CPU of every pod of the node, control plane too | {sum(cores.values()):.2f} cores | |")


if __name__ == "__main__":
    main()
