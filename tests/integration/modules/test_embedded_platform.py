"""The embedded platform on real servers: stopped, started with the command lines they had, reached, and described."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from shardmart import platforms
from shardmart.platforms.embedded import EmbeddedPlatform
from tests.support.clusters import EmbeddedCluster
from tests.support.modules import run_module


def platform_of(cluster: EmbeddedCluster) -> EmbeddedPlatform:
    found = platforms.of(cluster.state)
    assert isinstance(found, EmbeddedPlatform)
    return found


def running(cluster: EmbeddedCluster) -> dict[str, tuple[int, list[str]]]:
    """Pid and command line of every server that runs."""
    found = ((name, process.running()) for name, process in cluster.processes.items())
    return {name: (process.pid, process.cmdline()) for name, process in found if process}


def test_stopped_servers_start_again_as_they_were(cluster: EmbeddedCluster) -> None:
    platform, before = platform_of(cluster), running(cluster)
    names = ["shard2-1", "mongos1"]
    assert platform.start() == [], "all run already"
    assert sorted(platform.stop(names)) == sorted(names)
    assert running(cluster).keys() == before.keys() - set(names)
    assert platform.stop(names) == []
    assert sorted(platform.start(names)) == sorted(names)
    after = running(cluster)
    assert {name: command for name, (_, command) in after.items()} == {n: command for n, (_, command) in before.items()}
    assert {name for name in after if after[name] != before[name]} == set(names)


def test_killed_server_is_started_and_the_others_left_alone(cluster: EmbeddedCluster) -> None:
    platform, before = platform_of(cluster), running(cluster)
    cluster.kill("shard1-1")
    assert platform.start() == ["shard1-1"]
    assert {name for name, found in running(cluster).items() if found != before[name]} == {"shard1-1"}


def test_server_is_reached_as_itself_and_as_a_user(cluster: EmbeddedCluster) -> None:
    platform = platform_of(cluster)

    def who(node: str, user: str | None) -> list[str]:
        with platform.reach(platform.cluster.node(node), user).connect() as client:
            status = client.admin.command("connectionStatus")
        return [found["user"] for found in status["authInfo"]["authenticatedUsers"]]

    assert who("shard1-1", None) == ["__system"]
    assert who("mongos1", "monitor") == ["monitor"]


def test_servers_started_before_records_were_kept_get_one_by_the_next_run(cluster: EmbeddedCluster) -> None:
    record = cluster.processes["shard1-1"].record_file
    kept = json.loads(record.read_text())
    record.unlink()
    made = run_module(
        "member_processes",
        cluster=cluster.description.as_document(),
        state_folder=str(cluster.folder),
        mongod=cluster.processes["shard1-1"].command[0],
    )
    assert not made["changed"], made
    assert json.loads(record.read_text()) == kept
    assert record.stat().st_mode & 0o077 == 0


def as_version_1(cluster: EmbeddedCluster) -> dict[str, Any]:
    """What Shardmart 0.1 wrote for the embedded platform."""
    document = cluster.description.as_document()
    return {key: value for key, value in document.items() if key not in {"version", "kubernetes"}} | {
        "tls": {"mode": "disabled"}
    }


def test_status_reads_the_description_of_an_older_version(cluster: EmbeddedCluster) -> None:
    file = cluster.folder / "cluster.json"
    kept = file.read_text()
    file.write_text(json.dumps(as_version_1(cluster)))
    try:
        command = [sys.executable, "-c", "from shardmart.cli import main; main()", "status", "--json"]
        done = subprocess.run([*command, f"--state={cluster.folder}"], capture_output=True, text=True, check=False)
    finally:
        file.write_text(kept)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [s["primary"] for s in facts["sets"]] == ["configsvr1", "shard1-1", "shard2-1"]
