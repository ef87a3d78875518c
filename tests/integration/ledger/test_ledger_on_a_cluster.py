"""The ledger on a real cluster: clean when nothing is wrong, and the negative controls that show it is not blind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.protocol.connection import connect
from shardmart.ledger import cli
from shardmart.ledger.metrics import read_windows
from shardmart.ledger.mongodb import members
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.long

SHARD = "shard1ReplSet"


class LedgerRun:
    """`shardmart ledger run` as a process of its own."""

    def __init__(self, cluster: EmbeddedCluster, folder: Path, *options: str) -> None:
        self.cluster, self.folder = cluster, folder
        self.process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "shardmart.ledger",
                    "run",
                    "--state",
                    str(cluster.folder),
                    "--journal",
                    str(folder),
                ),
                *("--duration", "600", "--clients", "2", "--operation-timeout", "5", *options),
            ]
        )

    def acknowledged(self) -> int:
        return sum(window.writes_ok for window in read_windows(self.folder))

    def wait_for_writes(self, more: int, seconds: float = 240) -> None:
        wanted = self.acknowledged() + more
        end = time.monotonic() + seconds
        while self.acknowledged() < wanted:
            assert self.process.poll() is None, "the ledger ended by itself"
            assert time.monotonic() < end, f"waited {seconds} s for {more} acknowledged writes"
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def check(self, *options: str) -> dict[str, Any]:
        code = cli.main(["check", str(self.folder), "--state", str(self.cluster.folder), "--wait", "120", *options])
        verdict: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        assert code == (0 if verdict["clean"] else 1)
        return verdict


@pytest.fixture
def run(cluster: EmbeddedCluster, tmp_path: Path) -> Callable[..., LedgerRun]:
    return lambda *options: LedgerRun(cluster, tmp_path / "journal", *options)


def written(cluster: EmbeddedCluster, member: str) -> int:
    """How many orders and lists a member holds."""
    with connect(cluster.description.node(member).address, cluster.members_credentials) as client:
        return sum(client["ledger"][name].estimated_document_count() for name in ("orders", "lists"))


def wait_for_another_primary(cluster: EmbeddedCluster, old: str, seconds: float = 240) -> str:
    end = time.monotonic() + seconds
    while True:
        try:
            if (new := cluster.primary_of(SHARD)) != old:
                return new
        except AssertionError:
            pass
        assert time.monotonic() < end, f"waited {seconds} s for a primary other than {old}"
        time.sleep(0.1)


def test_all_workloads_and_members_are_clean_when_nothing_is_wrong(run: Callable[..., LedgerRun]) -> None:
    running = run()
    running.wait_for_writes(200)
    assert running.stop() == 0
    verdict = running.check()
    assert verdict["clean"], verdict["anomalies"]
    assert set(verdict["operations"]) == {"orders", "stock", "transfer", "register", "append"}
    assert any("members hold equal data" in line for line in verdict["checked"])
    assert any("no orphaned documents" in line for line in verdict["checked"])
    assert running.check("--offline")["counts"] == verdict["counts"]


def test_majority_writes_survive_kill_9_of_a_primary(cluster: EmbeddedCluster, run: Callable[..., LedgerRun]) -> None:
    running = run()
    running.wait_for_writes(100)
    victim = cluster.primary_of(SHARD)
    cluster.kill(victim)
    wait_for_another_primary(cluster, victim)
    running.wait_for_writes(100)
    cluster.start(victim)
    running.wait_for_writes(50)
    running.stop()
    verdict = running.check()
    assert verdict["clean"], verdict["anomalies"]


@pytest.fixture
def forgetful(cluster: EmbeddedCluster) -> None:
    """Servers that end a transaction nobody goes on with after 5 s, not after 60 (until they are started again)."""
    for shard in cluster.description.shards:
        for member in shard.members:
            with connect(member.address, cluster.members_credentials) as client:
                client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=5)


@pytest.mark.usefixtures("forgetful")
def test_client_killed_with_9_leaves_a_journal_that_is_checked_to_the_last_operation(
    run: Callable[..., LedgerRun],
) -> None:
    running = run()
    running.wait_for_writes(150)
    running.stop(signal.SIGKILL)
    verdict = running.check()
    assert verdict["clean"], verdict["anomalies"]
    assert verdict["acknowledged"] >= 150


def test_w1_writes_of_a_cut_off_and_killed_primary_are_lost_and_named(
    cluster: EmbeddedCluster, run: Callable[..., LedgerRun]
) -> None:
    """The negative control: without a majority an acknowledgement is worth nothing, and the ledger must see it."""
    running = run("--workload", "orders,append", "--write-concern", "1")
    running.wait_for_writes(50)
    primary = cluster.primary_of(SHARD)
    others = [member.name for member in cluster.set_of(SHARD).members if member.name != primary]
    before = written(cluster, primary)
    # Killed, not stopped: a stopped secondary would still find the primary's last words in its socket.
    for name in others:
        cluster.kill(name)
    end = time.monotonic() + 240
    while written(cluster, primary) < before + 3:
        assert time.monotonic() < end, "waited 240 s for writes on the primary that nobody follows"
    cluster.kill(primary)
    cluster.start(*others)
    wait_for_another_primary(cluster, primary)
    cluster.start(primary)
    running.wait_for_writes(20)
    running.stop()
    verdict = running.check()
    assert verdict["lost"] > 0
    lost = [anomaly for anomaly in verdict["anomalies"] if anomaly["kind"] == "lost"]
    assert all("client" in anomaly["operations"][0] for anomaly in lost)
    assert not [p for p in verdict["anomalies"] if p["kind"] == "members"]


def test_client_that_submits_twice_is_caught(run: Callable[..., LedgerRun]) -> None:
    running = run("--workload", "append,stock", "--double-submit", "0.2")
    running.wait_for_writes(80)
    running.stop()
    verdict = running.check()
    assert verdict["doubled"] > 0
    assert set(verdict["counts"]) == {"doubled"}


def test_tampered_document_is_caught(cluster: EmbeddedCluster, run: Callable[..., LedgerRun]) -> None:
    running = run("--workload", "orders,transfer")
    running.wait_for_writes(80)
    running.stop()
    with cluster.client() as client:
        orders, accounts = client["ledger"]["orders"], client["ledger"]["accounts"]
        run_id = json.loads((running.folder / "run.json").read_text())["id"]
        mine = {"_id": {"$gte": f"{run_id}:", "$lt": f"{run_id};"}}
        victim = orders.find_one(mine)
        assert victim
        orders.update_one({"_id": victim["_id"], "user_id": victim["user_id"]}, {"$inc": {"total_cents": 1}})
        richer = accounts.find_one(mine)
        assert richer
        accounts.update_one({"_id": richer["_id"]}, {"$inc": {"balance_cents": 1}})
    verdict = running.check()
    assert verdict["counts"] == {"tampered": 1, "unbalanced": 2}


def test_members_are_given_longer_than_an_abandoned_transaction_lives(cluster: EmbeddedCluster) -> None:
    """A router that was killed leaves open transactions, and dbHash waits for their locks."""
    server = cluster.set_of(SHARD).members[0]
    with connect(server.address, cluster.members_credentials) as client:
        limit = client.admin.command("getParameter", transactionLifetimeLimitSeconds=1)
    lives = limit["transactionLifetimeLimitSeconds"] * 1.5  # looked at every half of the limit
    assert lives + members.HASH_MILLISECONDS / 1000 < members.WAIT_SECONDS


def test_bad_use_is_one_line_and_an_exit_code(
    cluster: EmbeddedCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "journal")
    for arguments, code, words in (
        (["run", "--journal", folder, "--workload", "nothing"], 2, "no workload 'nothing'"),
        (["run", "--journal", folder, "--fsync", "often"], 2, "fsync is"),
        (["check", str(tmp_path)], 3, "holds no journal"),
        (["run"], 2, "journal"),
    ):
        assert cli.main([*arguments, *(["--state", str(cluster.folder)] if "--journal" in arguments else [])]) == code
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
