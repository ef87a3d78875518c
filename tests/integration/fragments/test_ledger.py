"""Claims of the ledger's workload `regions` on real nodes: what peers do is found whole, and what they would do without
the rule is found diverged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardmart.fragments.connection import administrator, rows
from shardmart.fragments.peers import repair, status
from shardmart.ledger import cli
from shardmart.ledger.metrics import read_windows
from shardmart.ledger.regions import system
from tests.support.region_nodes import REGIONS, RegionNodes, until

pytestmark = pytest.mark.full


def acknowledged(journal: Path) -> int:
    return sum(window.ok for window in read_windows(journal))


@contextmanager
def writing(nodes: RegionNodes, journal: Path) -> Iterator[None]:
    """The workload runs, and has written, until the end of the block."""
    command = ["run", "--workload=regions", "--clients=6", "--operation-timeout=5", "--duration=600", "--fsync=never"]
    place = [f"--journal={journal}", f"--uri-file={nodes.file}", "--until-input-ends"]
    run = subprocess.Popen([sys.executable, "-m", "shardmart.ledger", *command, *place], stdin=subprocess.PIPE)
    assert run.stdin
    try:
        until("the first acknowledged operations", lambda: acknowledged(journal) > 100)
        yield
    finally:
        run.stdin.close()
        assert run.wait(60) == 0


def mended(nodes: RegionNodes) -> None:
    until("a repair that finds the nodes equal", lambda: repair.repair(nodes.configuration).different == 0)


def check(nodes: RegionNodes, journal: Path) -> dict[str, Any]:
    code = cli.main(["check", str(journal), "--uri-file", str(nodes.file)])
    verdict: dict[str, Any] = json.loads((journal / "verdict.json").read_text())
    assert code == (0 if verdict["clean"] else 1)
    return verdict


def test_nothing_is_lost_and_all_are_equal_after_a_node_was_killed(nodes: RegionNodes, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with writing(nodes, journal):
        nodes.kill("EMEA")
        before = acknowledged(journal)
        until("the other two to acknowledge operations", lambda: acknowledged(journal) > before + 50)
        nodes.start()
        status.wait_until_streaming(nodes.configuration, 60)
    mended(nodes)
    verdict = check(nodes, journal)
    assert verdict["clean"], verdict["anomalies"]
    assert verdict["operations"]["regions"]["failed"] > 0, "the node was away"
    assert [line for line in verdict["checked"] if "of them the same on APJ, EMEA, LATAM" in line]


def test_without_the_rule_the_ledger_finds_the_nodes_diverged(
    nodes: RegionNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(system, "WAIT_SECONDS", 0.0)
    pair = (("APJ", "from_emea"), ("EMEA", "from_apj"))
    for region in REGIONS:
        nodes.run(region, "ALTER TABLE Customer_Region DISABLE TRIGGER customer_region_apply")
    try:
        for node, subscription in pair:  # apart, so that each certainly holds what the other will be told
            nodes.run(node, f"ALTER SUBSCRIPTION {subscription} DISABLE")
        with writing(nodes, tmp_path / "journal"):
            until("both to be written", lambda: acknowledged(tmp_path / "journal") > 300)
        for node, subscription in pair:
            nodes.run(node, f"ALTER SUBSCRIPTION {subscription} ENABLE")
        status.wait_until_streaming(nodes.configuration, 60)
        assert check(nodes, tmp_path / "journal")["counts"]["diverged"] > 0
    finally:
        for region in REGIONS:
            nodes.run(region, "ALTER TABLE Customer_Region ENABLE REPLICA TRIGGER customer_region_apply")
    mended(nodes)


def test_clean_deletes_what_runs_left_and_nothing_else(nodes: RegionNodes, tmp_path: Path) -> None:
    columns = "(region, customer_id, customer_name, email, city, country)"
    nodes.run("APJ", f"INSERT INTO Customer_Region {columns} VALUES ('APJ', 'somebody', 'Ada', 'a', 'b', 'IT')")
    with writing(nodes, tmp_path / "journal"):
        pass
    mended(nodes)
    assert cli.main(["clean", "--workload", "regions", "--uri-file", str(nodes.file)]) == 0
    mended(nodes)
    for node in nodes.configuration.nodes:
        with administrator(nodes.configuration, node) as connection:
            living = "SELECT customer_id FROM Customer_Region WHERE NOT deleted"
            found = {key for (key,) in rows(connection, living)}
        assert "somebody" in found
        assert not [key for key in found if key.startswith("ledger-")]
