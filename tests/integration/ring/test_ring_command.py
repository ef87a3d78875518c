"""`shardmart ring` as processes: demonstrations to their end and told to end, and a mover that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from shardmart.ring import Ring, RingClient
from shardmart.ring.placement.keys import hash_of
from shardmart.ring_command.servers import STORE
from tests.support.clusters import servers
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, ring

pytestmark = pytest.mark.full

DEADLINE_SECONDS = 120.0


def command(*arguments: str | Path, folder: Path | None = None) -> subprocess.Popen[bytes]:
    """`shardmart ring` with these arguments; what it keeps for a while lies in `folder`."""
    environment = os.environ | ({"TMPDIR": str(folder)} if folder else {})
    line = [sys.executable, "-m", "shardmart.ring_command", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ended(*arguments: str | Path) -> tuple[int, bytes]:
    """The same to its end: exit code and output."""
    process = command(*arguments)
    said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, said


def write_settings(client: RingClient, file: Path) -> None:
    """What a command needs to find the ring of a client."""
    file.write_text(json.dumps(asdict(client.nodes.settings)))
    file.chmod(0o600)


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.02)


def servers_in(folder: Path) -> list[psutil.Process]:
    """The servers whose configuration lies in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(word.startswith(f"{folder}/") for word in words[1:]):
            found.append(process)
    return found


def test_the_backup_demonstration_proves_what_it_claims_and_leaves_nothing(tmp_path: Path) -> None:
    assert servers()["mongod"]
    said, told = (played := command("backup", "--documents", "600", "--json", folder=tmp_path)).communicate(timeout=300)
    assert played.returncode == 0, told
    claims = {claim["text"]: (claim["counted"], claim["holds"]) for claim in json.loads(said)["claims"]}
    assert claims["copies on all nodes together"] == (1200, True)
    assert claims["documents in all, deleted ones gone"] == (540, True)
    assert claims["ranges in which two holders differ, deletions included"] == (0, True)
    assert servers_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["single", "multi", "backup"])
def test_a_demonstration_with_one_document_holds_what_it_claims(tmp_path: Path, name: str) -> None:
    played = command(name, "--documents", "1", "--json", folder=tmp_path)
    said, told = played.communicate(timeout=300)
    assert played.returncode == 0, told
    assert json.loads(said)["holds"]


@pytest.mark.parametrize(
    ("name", "needs", "step"),
    [
        ("single", 1, "find every document"),
        ("multi", 3, "add n3 back"),
        ("backup", 3, "first answer after a cut of the line of n2"),
    ],
)
def test_a_demonstration_on_servers_that_are_there_leaves_them_as_they_were(
    running: RingServers, tmp_path: Path, name: str, needs: int, step: str
) -> None:
    running.reset()
    nodes = running.names[:needs]
    with running.admin("n2") as client:
        process = client.admin.command("hello")["topologyVersion"]["processId"]
    file = tmp_path / "nodes"
    file.write_text("".join(f"{running.root_uri(name)}\n" for name in nodes))
    store = f"--store-uri={running.root_uri(STORE)}"
    for count in ("300", "200"):  # and again
        played = command(name, "--documents", count, "--json", f"--uri-file={file}", store)
        said, told = played.communicate(timeout=300)
        assert played.returncode == 0, told
        outcome = json.loads(said)
        assert outcome["holds"]
        assert step in [one["name"] for one in outcome["steps"]]
    for one in (STORE, *nodes):
        with running.admin(one) as client:
            assert "ring_demonstration" not in client.list_database_names()
    with running.admin("n2") as client:
        assert client.admin.command("hello")["topologyVersion"]["processId"] == process


def test_a_demonstration_that_is_told_to_end_takes_its_servers_with_it(tmp_path: Path) -> None:
    played = command("multi", "--documents", "10000000", folder=tmp_path)
    try:
        until("four servers run", lambda: len(servers_in(tmp_path)) == 4)
        assert played.poll() is None
        played.send_signal(signal.SIGTERM)
        _, told = played.communicate(timeout=DEADLINE_SECONDS)
        assert played.returncode == 130, told
        assert b"Traceback" not in told
        assert servers_in(tmp_path) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        played.kill()
        for left in servers_in(tmp_path):
            left.kill()


def test_a_mover_killed_in_the_middle_is_followed_by_another_that_finishes(
    running: RingServers, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    after: set[str] = set()

    async def test() -> None:
        nonlocal after
        async with ring(running, timeout_seconds=5.0) as client:
            write_settings(client, file)
            await client.put_many((f"key-{n}", n) for n in range(1500))
            with running.admin(STORE) as store:
                membership = store[DATABASE].membership
                for change in ("add", "remove") * 3:  # a mover that was quicker than its murderer: another one
                    mover = command(change, "n4", "--settings", file)
                    until(
                        "nodes change",
                        lambda mover=mover: (
                            bool(membership.find_one({"move": {"$ne": None}})) or mover.poll() is not None
                        ),
                    )
                    mover.kill()
                    mover.communicate()
                    if membership.find_one({"move": {"$ne": None}}):
                        break
                after = {"n1", "n2", "n3"} | ({"n4"} if change == "add" else set())
                await client.nodes.refresh()
                assert client.view.move, "no mover was killed in the middle"
                await client.put("key-0", "written in the middle")
                await client.delete("key-1")
                refused = command("remove", "n1", "--settings", file)
                told = refused.communicate(timeout=DEADLINE_SECONDS)[1]
                assert refused.returncode == 4
                assert b"changing already" in told or b"another mover is at work" in told
                store[DATABASE].leases.delete_many({})  # as a minute does
            other = command("resume", "--settings", file)
            said, told = other.communicate(timeout=DEADLINE_SECONDS)
            assert other.returncode == 0, told
            assert b"copies moved" in said
        async with RingClient(running.settings(timeout_seconds=5.0), upkeep=False) as client:
            assert set(client.view.ring.weights) == after
            assert client.view.move is None
            expected = {f"key-{n}": n for n in range(2, 1500)} | {"key-0": "written in the middle"}
            assert {one.key: one.value async for one in client.iterate()} == expected
            assert_equal_copies(running, client)

    asyncio.run(test())


def test_a_plan_says_what_moves_by_ranges_records_and_bytes_and_changes_nothing(
    running: RingServers, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"

    def told(*words: str) -> tuple[int, bytes]:
        return ended("add", "n4", *words, "--settings", file)

    async def test() -> None:
        async with ring(running, timeout_seconds=5.0) as client:
            write_settings(client, file)
            keys = [f"key-{n}" for n in range(500)]
            await client.put_many((key, "value") for key in keys)
            code, said = told("--check", "--json")
            plan = json.loads(said)
            after = Ring({"n1": 1, "n2": 1, "n3": 1, "n4": 1}, 2, 64)
            gains = [key for key in keys if "n4" in after.holders_at(hash_of(key))]
            assert code == 0
            assert sum(one["records"] for one in plan) == len(gains)
            assert all(one["bytes"] >= 100 * one["records"] for one in plan)
            ranges = [arc for one in plan for arc in one["arcs"] if one["target"] == "n4"]
            assert all(any(first <= hash_of(key) <= last for first, last in ranges) for key in gains)
            assert b"nothing was changed" in told("--check")[1]
            assert told("--json") == (2, b"")
            await client.nodes.refresh()
            assert (client.view.epoch, client.view.move) == (1, None)

    asyncio.run(test())


def test_tending_says_by_its_exit_code_that_something_has_to_wait_for_a_node(
    running: RingServers, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"

    async def test() -> None:
        async with ring(running, timeout_seconds=5.0) as client:
            write_settings(client, file)
            await client.put_many((f"key-{n}", n) for n in range(200))
            running.kill("n3")
            await client.put_many((f"key-{n}", "again") for n in range(200))
            code, said = ended("tend", "--settings", file)
            assert (code, b"n3 is away" in said, b" 0 hints wait" in said) == (1, True, False), said
            running.start("n3")
            code, said = ended("tend", "--settings", file)
            assert (code, b"is away" in said, said.splitlines()[-1].split(b";")[0]) == (0, False, b"0 hints wait"), said

    asyncio.run(test())
