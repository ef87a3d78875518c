"""The process that holds a fault on a Kubernetes node: kill or pause the processes of pods, or impair their network.

It runs in a pod of its own (toolbox image, the node's process namespace, a handful of capabilities); the
database's pods and their namespace stay as they are.  It reads its orders from `$ORDERS`, reports in lines of JSON on
standard output and ends, with everything undone, at its own deadline or on SIGTERM, whoever asked for it may be dead.
It imports nothing but the standard library and `chaos.packets`.

Orders: {"kind": "network" | "clear" | "kill" | "pause" | "continue", "duration_s", "at" (wall clock, when to kill),
"pods": [{"server", "uid", "container", "fault" (a NetworkFault, for network)}]}
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..packets.injector import report

SCAN_SECONDS = 0.1
DEATH_SECONDS = 20
Pod = dict[str, Any]


class NodeError(Exception):
    """The orders cannot be carried out; the message says why."""


def processes_of(uid: str, container: str | None = None) -> Iterator[int]:
    """The processes of a pod (cgroups are named after its uid, with `-` or `_`), or of one container of it."""
    marks = (container,) if container else (uid, uid.replace("-", "_"))
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                cgroup = (folder / "cgroup").read_text()
            except OSError:
                continue
            if any(mark in cgroup for mark in marks):
                yield int(folder.name)


def program(pid: int) -> str:
    """The program a process runs; empty when it has just ended."""
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def state(pid: int) -> str:
    """The state of a process, as in proc(5): R, S, T (stopped), Z; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def servers_of(pods: list[Pod]) -> dict[str, list[int]]:
    """The server's processes in each pod.  Raises NodeError when one has none."""
    found = {pod["server"]: sorted(processes_of(pod["uid"], pod["container"])) for pod in pods}
    if missing := [server for server, pids in found.items() if not pids]:
        raise NodeError(f"no process of {', '.join(missing)} on this node: does it run?")
    return found


def await_states(pids: list[int], wanted: str, words: str) -> None:
    """Wait until every process is in one of the states `wanted` or gone."""
    end = time.monotonic() + DEATH_SECONDS
    while left := [pid for pid in pids if state(pid) not in {*wanted, ""}]:
        if time.monotonic() > end:
            raise NodeError(f"waited {DEATH_SECONDS} s for the processes {left} to be {words}")
        time.sleep(0.005)


def kill(orders: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """SIGKILL at the moment `at`; whatever Kubernetes starts in place of it is killed too, until the deadline."""
    pods = orders["pods"]
    servers = servers_of(pods)
    victims = [pid for pids in servers.values() for pid in pids]
    # The first process of a container is the server; the others are probes that run at the moment.
    programs = {program(pids[0]) for pids in servers.values()} - {""}
    stop.wait(max(0.0, orders.get("at", 0.0) - time.time()))
    began = time.time()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    await_states(victims, "Z", "dead after SIGKILL")
    report("started", began=began, killed=victims, via="SIGKILL from the node")
    deadline = time.monotonic() + orders["duration_s"]
    again = 0
    while not stop.wait(max(0.0, min(SCAN_SECONDS, deadline - time.monotonic()))) and time.monotonic() < deadline:
        for pod in pods:
            for pid in processes_of(pod["uid"]):
                if program(pid) in programs:
                    again += 1
                    os.kill(pid, signal.SIGKILL)
    return {"killed": len(victims), "killed_again": again}


def pause(orders: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """SIGSTOP, and SIGCONT at the end."""
    stopped = [pid for pids in servers_of(orders["pods"]).values() for pid in pids]
    began = time.time()
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        await_states(stopped, "TZ", "stopped")
        report("started", began=began, stopped=stopped, via="SIGSTOP from the node")
        stop.wait(orders["duration_s"])
        still = sum(state(pid) == "T" for pid in stopped)
    finally:
        for pid in stopped:
            if state(pid):
                os.kill(pid, signal.SIGCONT)
    return {"stopped": len(stopped), "stopped_until_the_end": still}


def let_go(orders: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """SIGCONT for every stopped process of the pods: what a dead injector left behind."""
    del stop
    stopped = [pid for pod in orders["pods"] for pid in processes_of(pod["uid"]) if state(pid) == "T"]
    report("started", began=time.time(), via="SIGCONT from the node")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    return {"continued": len(stopped)}


def network(orders: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """One packet injector in the network namespace of each pod; their reports are summed."""
    children: dict[str, subprocess.Popen[str]] = {}
    try:
        for pod in orders["pods"]:
            inside = _any_process(pod)
            child = subprocess.Popen(  # noqa: S603
                _in_network_of(inside, "-"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            children[pod["server"]] = child
            assert child.stdin
            child.stdin.write(json.dumps(pod["fault"]))
            child.stdin.close()
        first = {server: _event(server, child) for server, child in children.items()}
        report("started", began=max(e["at"] for e in first.values()), via=next(iter(first.values()))["via"])
        end = time.monotonic() + orders["duration_s"] + 5
        while not stop.wait(0.05) and time.monotonic() < end and any(c.poll() is None for c in children.values()):
            continue
    finally:
        for child in children.values():
            child.terminate()
    last = [_event(server, child) for server, child in children.items()]
    return {key: sum(e.get(key, 0) for e in last) for key in ("seen", "delayed", "dropped", "passed")}


def clear(orders: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """Undo what a dead injector left in the network namespaces of the pods."""
    del stop
    report("started", began=time.time(), via="iptables and tc from the node")
    for pod in orders["pods"]:
        subprocess.run(_in_network_of(_any_process(pod), "--clear"), check=False)  # noqa: S603
    return {"cleared": len(orders["pods"])}


def _any_process(pod: Pod) -> int:
    """A process in the pod's namespaces; the pause container has one as long as the pod exists."""
    found = next((pid for pid in processes_of(pod["uid"]) if state(pid) not in {"", "Z"}), None)
    if found is None:
        raise NodeError(f"no process of {pod['server']} on this node: does it run?")
    return found


def _in_network_of(pid: int, argument: str) -> list[str]:
    return ["/usr/bin/nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-m", "shardmart.chaos.packets", argument]


def _event(server: str, child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next report of an injector; NodeError when it refused or died."""
    assert child.stdout
    line = child.stdout.readline()
    event: dict[str, Any] = json.loads(line) if line else {"event": "died"}
    if event["event"] not in {"started", "ended"}:
        said = event.get("reason") or (child.stderr.read().strip().splitlines() or ["no reason given"])[-1:]  # type: ignore[union-attr]
        raise NodeError(f"{server}: {said}")
    return event


KINDS: dict[str, Callable[[dict[str, Any], threading.Event], dict[str, Any]]] = {
    "kill": kill,
    "pause": pause,
    "continue": let_go,
    "clear": clear,
    "network": network,
}


def main() -> int:
    """Carry out `$ORDERS`; exit 0, or 2 if they could not be."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    orders = json.loads(os.environ["ORDERS"])
    try:
        evidence = KINDS[orders["kind"]](orders, stop)
    except (NodeError, OSError) as error:
        report("refused", reason=str(error))
        return 2
    report("ended", stopped=stop.is_set(), evidence=evidence)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
