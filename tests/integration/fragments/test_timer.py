"""Claims of the timer of the repair, as the role runs it: it mends by itself, is seen, and is missed when it dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from shardmart.cluster.host.processes import stop
from shardmart.cluster.protocol.connection import Deadline
from shardmart.errors import RefusedError
from shardmart.fragments import cli
from shardmart.fragments.connection import administrator, rows
from shardmart.fragments.peers import comparison, status, timer
from shardmart.platforms import repair_timer
from tests.support.region_nodes import RegionNodes, until

INSERT = """INSERT INTO Customer_Region (region, customer_id, customer_name, email, city, country)
    VALUES ('APJ', 'missed', 'Ada', 'a@example.com', 'Rome', 'IT') ON CONFLICT DO NOTHING"""
AS_A_PEER = "SET session_replication_role = replica"


@pytest.fixture(autouse=True)
def _none_is_left(nodes: RegionNodes) -> Iterator[None]:
    yield
    stop([repair_timer.process(nodes.folder, 1)])


def converge(nodes: RegionNodes, every_seconds: float) -> list[str]:
    return repair_timer.converge(nodes.folder, every_seconds, Deadline(60))


def remembered(nodes: RegionNodes) -> dict[str, dict[str, Any]]:
    return timer.last(nodes.configuration, nodes.configuration.nodes)


def has_row(nodes: RegionNodes, name: str) -> bool:
    with administrator(nodes.configuration, nodes.node(name)) as connection:
        return bool(rows(connection, "SELECT 1 FROM Customer_Region WHERE customer_id = 'missed'"))


def test_what_a_node_misses_comes_without_a_command_and_status_says_so(nodes: RegionNodes) -> None:
    nodes.run("APJ", INSERT)
    assert comparison.settle(nodes.configuration, nodes.configuration.nodes, seconds=60)
    nodes.run("LATAM", AS_A_PEER, "DELETE FROM Customer_Region WHERE customer_id = 'missed'")
    assert not has_row(nodes, "LATAM")
    assert converge(nodes, 1) == ["start fragments-repair"]
    assert converge(nodes, 1) == []
    until("the timer to bring the row", lambda: has_row(nodes, "LATAM"))
    until("the nodes to remember the repair", lambda: "timer" in remembered(nodes))
    facts = status.status(nodes.configuration, settle_seconds=60)
    assert facts["repairs"]["timer"]["every_seconds"] == 1
    assert facts["problems"] == []
    assert "LATAM: 1 rows" in repair_timer.process(nodes.folder, 1).log_file.read_text()


def test_it_is_restarted_for_another_interval_and_nobody_misses_one_that_was_stopped(nodes: RegionNodes) -> None:
    converge(nodes, 1)
    until("the nodes to remember the repair", lambda: "timer" in remembered(nodes))
    assert converge(nodes, 600) == ["restart fragments-repair: its arguments changed"]
    until("the other interval", lambda: remembered(nodes).get("timer", {}).get("every_seconds") == 600)
    assert converge(nodes, 0) == ["stop fragments-repair"]
    assert "timer" not in remembered(nodes)
    assert converge(nodes, 0) == []


def test_one_that_was_killed_is_missed(nodes: RegionNodes) -> None:
    converge(nodes, 5)
    until("the nodes to remember the repair", lambda: "timer" in remembered(nodes))
    running = repair_timer.process(nodes.folder, 5).running()
    assert running
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    for node in nodes.configuration.nodes:
        nodes.run(node.name, "UPDATE Customer_Region_Repairs SET finished_at = finished_at - interval '2 minutes'")
    problems = status.status(nodes.configuration, compare=False, settle_seconds=60)["problems"]
    assert len(problems) == 1
    assert problems[0].startswith("the timer has ended no repair for 1")
    assert converge(nodes, 5) == ["start fragments-repair"]
    until("it to be in time", lambda: status.status(nodes.configuration, compare=False)["problems"] == [])
    assert converge(nodes, 0) == ["stop fragments-repair"]


def test_it_goes_on_while_a_node_is_away_and_says_which(nodes: RegionNodes) -> None:
    there = [node for node in nodes.configuration.nodes if node.name != "EMEA"]
    nodes.kill("EMEA")
    try:
        converge(nodes, 1)
        until("a repair between the other two", lambda: "timer" in timer.last(nodes.configuration, there))
        log = repair_timer.process(nodes.folder, 1).log_file
        until("it to say which is away", lambda: "not repaired everywhere: EMEA does not answer" in log.read_text())
    finally:
        nodes.start()
    until("a repair of all", lambda: len(timer.last(nodes.configuration, [nodes.node("EMEA")])) > 0)
    status.wait_until_streaming(nodes.configuration, 60)


def test_a_second_one_is_refused(nodes: RegionNodes) -> None:
    lock = nodes.folder / "run" / "second.lock"
    lock.parent.mkdir(exist_ok=True)
    with timer.alone(lock), pytest.raises(RefusedError, match="another timer"), timer.alone(lock):
        pass
    with timer.alone(lock):
        assert cli.main(["repair", "--every=1", f"--configuration={nodes.file}", f"--lock={lock}"]) == 4


def test_a_command_is_remembered_beside_the_timer(nodes: RegionNodes) -> None:
    assert cli.main(["repair", f"--configuration={nodes.file}"]) == 0
    assert remembered(nodes)["command"]["every_seconds"] is None
