"""The `member_processes` module: real processes that survive, are recognised, and are never confused."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from shardmart.cluster.protocol.connection import Deadline, connect
from shardmart.platforms import embedded
from tests.support.clusters import ROOT, EmbeddedCluster, servers, small_topology
from tests.support.modules import run_module


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster of 1+1 members and a router whose processes do not run."""
    cluster = EmbeddedCluster(tmp_path / "state", small_topology(shards=1))
    cluster.write_secrets()
    try:
        yield cluster
    finally:
        cluster.destroy()


def arguments(made: EmbeddedCluster, /, **changes: Any) -> dict[str, Any]:
    cluster = made.description.as_document()
    return {"cluster": cluster, "state_folder": str(made.folder), "wait_seconds": 60} | servers() | changes


def running(cluster: EmbeddedCluster) -> dict[str, int]:
    return {name: found.pid for name, p in cluster.processes.items() if (found := p.running())}


STOP = """
import sys
from pathlib import Path
from shardmart.cluster.description import read
from shardmart.cluster.host import processes
from tests.support.clusters import EmbeddedCluster
folder = Path(sys.argv[1])
cluster = EmbeddedCluster(folder, read(folder / "cluster.json"))
print(*processes.stop(cluster.processes.values(), wait_seconds=30))
"""


def test_server_whose_parent_does_not_collect_it_has_ended(stopped: EmbeddedCluster) -> None:
    """As in a container whose first process is no init: what ended stays in the process table."""
    stopped.start("shard1-1")  # a child of this process
    process = stopped.processes["shard1-1"].running()
    assert process
    command = [sys.executable, "-c", STOP, str(stopped.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.status() == psutil.STATUS_ZOMBIE
    assert (done.stdout, done.returncode) == ("shard1-1\n", 0), done.stderr
    assert not stopped.processes["shard1-1"].pid_file.exists()


def test_processes_start_once_and_stop_cleanly(stopped: EmbeddedCluster) -> None:
    names = ["configsvr1", "shard1-1", "mongos1"]
    planned = run_module("member_processes", check=True, **arguments(stopped))
    assert planned["changes"] == [f"start {name}" for name in names]
    assert running(stopped) == {}
    assert run_module("member_processes", **arguments(stopped))["changed"]
    pids = running(stopped)
    assert sorted(pids) == sorted(names)
    assert not run_module("member_processes", **arguments(stopped))["changed"]
    assert running(stopped) == pids

    for name, pid in pids.items():
        process = psutil.Process(pid)
        assert {c.laddr.ip for c in process.net_connections() if c.status == "LISTEN"} == {"127.0.0.1"}, name
        secret = (stopped.folder / "secrets" / "keyfile").read_text().strip()
        assert secret not in " ".join(process.cmdline())
    for folder in ("data", "logs", "config", "run"):
        assert (stopped.folder / folder).stat().st_mode & 0o077 == 0, folder

    # A pid file that was never written does not hide a running member, nor start it twice.
    stopped.processes["shard1-1"].pid_file.unlink()
    assert not run_module("member_processes", **arguments(stopped))["changed"]

    # One that was killed is started again, alone.
    stopped.kill("shard1-1")
    assert run_module("member_processes", **arguments(stopped))["changes"] == ["start shard1-1"]

    ended = run_module("member_processes", **arguments(stopped, state="stopped"))
    assert sorted(ended["changes"]) == sorted(f"stop {name}" for name in names)
    assert running(stopped) == {}
    assert not run_module("member_processes", **arguments(stopped, state="stopped"))["changed"]
    log = stopped.processes["shard1-1"].log_file.read_text()
    assert '"Shutting down","attr":{"exitCode":0}' in log, "the member ended by itself"


def test_what_an_earlier_topology_started_is_not_forgotten(tmp_path: Path) -> None:
    larger = EmbeddedCluster(tmp_path / "state", small_topology(shards=2, routers=2))
    larger.write_secrets()
    shards, routers = larger.description.shards, larger.description.routers
    smaller = replace(larger.description, shards=shards[:1], routers=routers[:1]).as_document()
    try:
        run_module("member_processes", **arguments(larger))
        assert sorted(running(larger)) == ["configsvr1", "mongos1", "mongos2", "shard1-1", "shard2-1"]
        change = ["stop mongos2: the topology has it no more"]
        assert run_module("member_processes", check=True, **arguments(larger, cluster=smaller))["changes"] == change
        assert "mongos2" in running(larger)
        assert run_module("member_processes", **arguments(larger, cluster=smaller))["changes"] == change
        # A member has data: it is never stopped because a topology does not mention it.
        assert sorted(running(larger)) == ["configsvr1", "mongos1", "shard1-1", "shard2-1"]
        assert not run_module("member_processes", **arguments(larger, cluster=smaller))["changed"]
        ended = run_module("member_processes", **arguments(larger, cluster=smaller, state="stopped"))
        assert sorted(ended["changes"]) == ["stop configsvr1", "stop mongos1", "stop shard1-1", "stop shard2-1"]
        assert running(larger) == {}
    finally:
        larger.destroy()


def test_stale_pid_file_of_another_program_is_never_signalled(stopped: EmbeddedCluster) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        pid_file = stopped.processes["shard1-1"].pid_file
        pid_file.parent.mkdir(parents=True)
        pid_file.write_text(f"{bystander.pid}\n")
        assert not run_module("member_processes", **arguments(stopped, state="stopped"))["changed"]
        assert bystander.poll() is None
        run_module("member_processes", **arguments(stopped))
        assert running(stopped)["shard1-1"] != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_busy_port_is_named_with_its_holder(stopped: EmbeddedCluster) -> None:
    member = stopped.set_of("shard1ReplSet").members[0]
    with socket.create_server((member.host, member.port)):
        result = run_module("member_processes", **arguments(stopped))
    holder = f"{psutil.Process().name()} (pid {psutil.Process().pid})"
    assert result["msg"] == (
        f"port {member.port} of shard1-1 is held by {holder}; stop it or change the port in the topology"
    )
    assert running(stopped) == {}, "nothing was started half way"


def test_member_that_cannot_start_is_shown_with_its_log(stopped: EmbeddedCluster) -> None:
    stopped.state.keyfile.write_text("!")
    result = run_module("member_processes", **arguments(stopped))
    assert "ended with exit code" in result["msg"]
    assert "keyfile" in result["msg"].lower() or "security key" in result["msg"].lower()


def test_changed_cache_restarts_the_member_and_shows_the_difference(stopped: EmbeddedCluster) -> None:
    run_module("member_processes", **arguments(stopped))
    shard = stopped.set_of("shard1ReplSet")
    stopped.form(shard)
    before = running(stopped)
    larger = replace(shard, members=(replace(shard.members[0], cache_mb=512),))
    changed = {"cluster": replace(stopped.description, shards=(larger,)).as_document()}
    planned = run_module("member_processes", check=True, **arguments(stopped, **changed))
    assert planned["changes"] == ["restart shard1-1: its configuration changed"]
    assert "cacheSizeGB: 0.25" in planned["diff"][0]["before"]
    assert "cacheSizeGB: 0.5" in planned["diff"][0]["after"]
    assert running(stopped) == before
    assert run_module("member_processes", **arguments(stopped, **changed))["changes"] == planned["changes"]
    after = running(stopped)
    assert {name for name in after if after[name] != before[name]} == {"shard1-1"}
    with connect(shard.members[0].address, stopped.members_credentials) as client:
        cache = client.admin.command("serverStatus")["wiredTiger"]["cache"]["maximum bytes configured"]
    assert cache == 512 << 20


def megabytes(folder: Path) -> float:
    """What a folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*")) / 1e6


def test_new_member_takes_little_disk(stopped: EmbeddedCluster) -> None:
    run_module("member_processes", **arguments(stopped))
    assert megabytes(stopped.folder / "data" / "shard1-1") < 2 * embedded.JOURNAL_MB


def test_member_with_the_large_journals_of_before_goes_on_with_small_ones(stopped: EmbeddedCluster) -> None:
    process, member = stopped.processes["shard1-1"], stopped.set_of("shard1ReplSet").members[0]
    small = yaml.safe_load(str(process.configuration))
    del small["storage"]["wiredTiger"]["engineConfig"]["configString"]
    stopped.processes["shard1-1"] = replace(process, configuration=yaml.safe_dump(small))
    stopped.start("shard1-1")
    stopped.form(stopped.set_of("shard1ReplSet"))
    with connect(member.address, stopped.members_credentials) as client:
        client["shop"]["things"].insert_one({"_id": "kept"})
    assert megabytes(stopped.folder / "data" / "shard1-1") > 300
    stopped.kill("shard1-1")  # what is in the journal alone has to be read from a large file

    run_module("member_processes", **arguments(stopped))
    stopped.form(stopped.set_of("shard1ReplSet"))
    with connect(member.address, stopped.members_credentials) as client:
        assert client["shop"]["things"].find_one({"_id": "kept"})
        client.admin.command("fsync")  # a checkpoint: the journals before it go
    deadline = Deadline(60)
    while megabytes(stopped.folder / "data" / "shard1-1") > 2 * embedded.JOURNAL_MB:
        deadline.pause("the large journals to be removed")


def test_large_log_is_rotated_and_written_anew(stopped: EmbeddedCluster) -> None:
    run_module("member_processes", **arguments(stopped))
    process = stopped.processes["shard1-1"]
    result = run_module("member_processes", **arguments(stopped, rotate_logs_above_mb=0))
    assert "rotate the log of shard1-1" in result["changes"]
    old = process.log_file.with_name(process.log_file.name + ".1")
    assert old.stat().st_size > 0
    with connect(stopped.set_of("shard1ReplSet").members[0].address, stopped.members_credentials) as client:
        client.admin.command("ping")
    found = process.running()
    assert found
    found.send_signal(signal.SIGTERM)
    found.wait(30)
    assert process.log_file.stat().st_size > 0, "the member writes to the new file"
