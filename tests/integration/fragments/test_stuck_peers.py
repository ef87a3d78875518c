"""Claims of peers that do not get on: what stops one is named, keeps nothing else from coming, and has an end."""

from __future__ import annotations

import signal

import pytest

from shardmart.errors import UnreachableError
from shardmart.fragments import cli
from shardmart.fragments import connection as connections
from shardmart.fragments.configuration import PEER
from shardmart.fragments.connection import Connection, connect, rows
from shardmart.fragments.peers import comparison, repair, status
from tests.support.region_customers import (
    cut,
    everywhere,
    forget,
    insert,
    mend,
    rename,
    seen,
    told,
)
from tests.support.region_nodes import WAIT_SECONDS, RegionNodes, until

pytestmark = pytest.mark.full


def test_a_row_that_stops_a_subscription_is_left_behind_and_named_and_the_others_come(nodes: RegionNodes) -> None:
    """Nobody cures it before the repair."""
    where = f"--configuration={nodes.file}"
    nodes.run("LATAM", "ALTER TABLE Customer_Region ADD CONSTRAINT picky CHECK (customer_name <> 'Poison')")
    try:
        insert(nodes, "APJ", "poison", "Poison")
        insert(nodes, "APJ", "behind-it")
        until("the subscription to stop", lambda: told(nodes, "LATAM", "APJ") == "stopped")
        done = repair.repair(nodes.configuration, settle_seconds=1)
        assert [line for line in done.failed if line.startswith("LATAM does not take APJ/poison: ")] == done.failed
        assert len(done.failed) == 1
        assert seen(nodes, "behind-it") == everywhere("Ada")
        assert "LATAM" not in seen(nodes, "poison")
        until("the others to be told as ever", lambda: told(nodes, "LATAM", "APJ") == "streaming")
        assert cli.main(["repair", where]) == 1
    finally:
        nodes.run("LATAM", "ALTER TABLE Customer_Region DROP CONSTRAINT picky")
    assert cli.main(["repair", where]) == 0
    mend(nodes)
    assert seen(nodes, "poison") == everywhere("Poison")


def test_a_subscription_that_cannot_be_made_keeps_no_row_from_being_repaired(nodes: RegionNodes) -> None:
    cut(nodes, "LATAM", "EMEA")
    insert(nodes, "EMEA", "round-about")
    nodes.run("EMEA", "SELECT pg_drop_replication_slot('emea_to_latam')", "ALTER ROLE peer NOLOGIN")
    try:
        done = repair.repair(nodes.configuration, settle_seconds=1)
        assert done.rows["LATAM"] == 1
        assert seen(nodes, "round-about")["LATAM"] == "Ada"
        assert len(done.failed) == 1
        said = "LATAM: subscription to EMEA: not mended: LATAM does not reach another node: "
        assert done.failed[0].startswith(said)
        log = nodes.servers["LATAM"].log.read_text()
        assert "could not connect to the publisher" in log
        assert nodes.configuration.password(PEER) not in log, "a statement that fails is logged whole"
    finally:
        nodes.run("EMEA", "ALTER ROLE peer LOGIN")
    mend(nodes)


def test_a_peer_that_does_not_get_through_is_a_problem(nodes: RegionNodes) -> None:
    nodes.run("EMEA", "ALTER ROLE peer NOLOGIN")
    senders = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'emea_to_latam'"
    nodes.run("EMEA", senders)
    try:

        def connecting() -> bool:
            nodes.run("LATAM", "SELECT pg_stat_reset_subscription_stats(NULL)")
            return told(nodes, "LATAM", "EMEA") == "connecting"

        until("the subscription to wait for its peer", connecting)
        said = "LATAM is not told by EMEA: it does not get through to it: see LATAM's log"
        assert said in status.status(nodes.configuration, settle_seconds=1)["problems"]
    finally:
        nodes.run("EMEA", "ALTER ROLE peer LOGIN")
    mend(nodes)
    assert status.status(nodes.configuration, settle_seconds=WAIT_SECONDS)["problems"] == []


def test_a_node_that_is_told_and_does_not_take_it_in_is_a_problem(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "held")
    mend(nodes)
    with connect(nodes.configuration, nodes.node("LATAM")) as connection:
        connection.execute("SELECT * FROM Customer_Region WHERE customer_id = 'held' FOR UPDATE")
        rename(nodes, "APJ", "held", "Bea")
        facts = status.status(nodes.configuration, settle_seconds=1)
    assert "LATAM was not told within 1 s all that APJ has written" in facts["problems"]
    assert (facts["everything_told"], facts["rows_different"]) == (False, 1)
    mend(nodes)
    assert status.status(nodes.configuration, settle_seconds=WAIT_SECONDS)["problems"] == []


def test_what_is_written_while_the_nodes_are_read_one_after_the_other_is_no_difference(
    nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("busy", "really-missing"):
        insert(nodes, "APJ", key)
    mend(nodes)
    forget(nodes, "EMEA", "really-missing")
    written: list[str] = []

    def between(connection: Connection, query: str, *values: object) -> list[tuple[object, ...]]:
        """A write after the first checksums, so that its range differs, and one after its row was read once."""
        found = rows(connection, query, *values)
        read = query == comparison.ROWS and any(row[1] == "busy" for row in found)
        if (query == comparison.CHECKSUMS and not written) or (read and len(written) == 1):
            written.append("Bea" if written else "Cem")
            rename(nodes, "LATAM", "busy", written[-1])
            mend(nodes)
        return found

    monkeypatch.setattr(comparison, "rows", between)
    facts = status.status(nodes.configuration, settle_seconds=WAIT_SECONDS)
    assert [line for line in facts["problems"] if "such as APJ/really-missing:" in line] == facts["problems"]
    assert (facts["rows_different"], len(written)) == (1, 2)
    repair.repair(nodes.configuration)


def test_a_node_that_is_stopped_in_the_middle_of_a_statement_is_given_up(
    nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel goes on to acknowledge packets: no time-out of TCP ends the wait."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 1)
    running = nodes.servers["EMEA"].running()
    assert running
    with connections.connect(nodes.configuration, nodes.node("EMEA"), autocommit=True) as connection:
        family = [running, *running.children(recursive=True)]
        try:
            for process in family:
                process.send_signal(signal.SIGSTOP)
            with pytest.raises(UnreachableError, match="no answer for 1 s"), connections.one_line(nodes.node("EMEA")):
                connection.execute("SELECT 1")
        finally:
            for process in family:
                process.send_signal(signal.SIGCONT)
        assert connection.closed
    monkeypatch.undo()
    mend(nodes)
