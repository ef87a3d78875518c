"""Claims of the peers: what was written anywhere is everywhere in the end, the later write wins, deletions included."""

from __future__ import annotations

import json
import threading
import time

import psycopg
import pytest

from shardmart.fragments import cli
from shardmart.fragments.connection import Connection, administrator, connect, rows, scalar
from shardmart.fragments.peers import comparison, repair, status, subscriptions
from tests.support.region_customers import (
    COLUMNS,
    apart,
    cut,
    different,
    everywhere,
    forget,
    insert,
    mend,
    rename,
    seen,
    seen_on,
    told,
)
from tests.support.region_nodes import REGIONS, WAIT_SECONDS, RegionNodes, until


def test_what_is_written_on_any_node_is_on_every_node(nodes: RegionNodes) -> None:
    for region in REGIONS:
        insert(nodes, region, f"plain-{region}")
        until("the insert", lambda region=region: seen(nodes, f"plain-{region}") == everywhere("Ada"))  # type: ignore[misc]
    rename(nodes, "LATAM", "plain-APJ", "Bea")
    until("the update from another node", lambda: seen(nodes, "plain-APJ") == everywhere("Bea"))
    nodes.run("EMEA", "DELETE FROM Customer_Region WHERE customer_id = 'plain-APJ'")
    until("the deletion from a third node", lambda: seen(nodes, "plain-APJ") == everywhere(None))
    insert(nodes, "APJ", "plain-APJ", "Cem")
    until("the key to come back", lambda: seen(nodes, "plain-APJ") == everywhere("Cem"))
    assert different(nodes) == 0


def test_the_later_of_two_writes_apart_wins_everywhere_and_the_loser_is_recorded(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "both")
    mend(nodes)
    apart(nodes, "APJ", "EMEA")
    rename(nodes, "APJ", "both", "Early")
    rename(nodes, "EMEA", "both", "Late")
    assert {name: seen(nodes, "both")[name] for name in ("APJ", "EMEA")} == {"APJ": "Early", "EMEA": "Late"}
    mend(nodes)
    assert seen(nodes, "both") == everywhere("Late")
    lost = {}
    for name in ("APJ", "EMEA"):
        with administrator(nodes.configuration, nodes.node(name)) as connection:
            query = """SELECT kept_node, lost_node, lost_row->>'customer_name' FROM Customer_Region_Conflicts
                WHERE customer_id = 'both'"""
            lost[name] = rows(connection, query)
    assert lost == {"APJ": [("EMEA", "APJ", "Early")], "EMEA": [("EMEA", "APJ", "Early")]}
    facts = status.status(nodes.configuration)
    for node in facts["nodes"]:
        if node["name"] in lost:
            assert node["conflicts"] >= 1
            assert node["last_conflict"].endswith("APJ/both: EMEA kept, APJ lost")


def test_of_two_writes_of_one_moment_the_same_one_wins_everywhere(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "tie")
    mend(nodes)
    for node, other in subscriptions.pairs(nodes.configuration.nodes):
        cut(nodes, node.name, other.name)
    moment = int(time.time() * 1e6)
    for name in ("LATAM", "APJ", "EMEA"):
        stamped = f"version_time = {moment}, version_node = '{name}'"
        update = f"UPDATE Customer_Region SET customer_name = 'By {name}', {stamped} WHERE customer_id = 'tie'"
        nodes.run(name, "SET session_replication_role = replica", update)
    assert seen(nodes, "tie") == {name: f"By {name}" for name in REGIONS}
    mend(nodes)
    assert seen(nodes, "tie") == everywhere("By LATAM"), "the greater name decides"


def test_a_later_deletion_beats_an_update_and_a_later_update_beats_a_deletion(nodes: RegionNodes) -> None:
    for key in ("gone", "saved"):
        insert(nodes, "APJ", key)
    mend(nodes)
    apart(nodes, "APJ", "LATAM")
    rename(nodes, "APJ", "gone", "Update")
    nodes.run("LATAM", "DELETE FROM Customer_Region WHERE customer_id IN ('gone', 'saved')")
    rename(nodes, "APJ", "saved", "Update")
    nodes.run("APJ", "UPDATE Customer_Region SET deleted = false WHERE customer_id = 'saved'")
    mend(nodes)
    assert seen(nodes, "gone") == everywhere(None)
    assert seen(nodes, "saved") == everywhere("Update")


def test_without_the_rule_the_nodes_stay_different_and_that_is_seen(nodes: RegionNodes) -> None:
    """The negative control: a harness that calls this converged is blind."""
    insert(nodes, "APJ", "control")
    mend(nodes)
    for region in REGIONS:
        nodes.run(region, "ALTER TABLE Customer_Region DISABLE TRIGGER customer_region_apply")
    try:
        apart(nodes, "APJ", "EMEA")
        rename(nodes, "APJ", "control", "Mine")
        rename(nodes, "EMEA", "control", "Yours")
        mend(nodes)
        assert seen(nodes, "control")["APJ"] == "Yours"
        assert seen(nodes, "control")["EMEA"] == "Mine"
        facts = status.status(nodes.configuration)
        assert facts["rows_different"] == 1
        assert [line for line in facts["problems"] if "APJ/control" in line]
    finally:
        for region in REGIONS:
            nodes.run(region, "ALTER TABLE Customer_Region ENABLE REPLICA TRIGGER customer_region_apply")
    repair.repair(nodes.configuration)
    assert different(nodes) == 0
    assert seen(nodes, "control") == everywhere("Yours")


def test_an_update_that_overtakes_its_insert_is_lost_until_the_repair_brings_it(nodes: RegionNodes) -> None:
    cut(nodes, "LATAM", "APJ")
    insert(nodes, "APJ", "overtaken")
    until("the insert on EMEA", lambda: seen(nodes, "overtaken").get("EMEA") == "Ada")
    rename(nodes, "EMEA", "overtaken", "Bea")
    mend(nodes)
    assert seen(nodes, "overtaken") == {"APJ": "Bea", "EMEA": "Bea", "LATAM": "Ada"}, (
        "replication alone leaves them apart"
    )
    done = repair.repair(nodes.configuration)
    assert (done.different, done.rows) == (1, {"APJ": 0, "EMEA": 0, "LATAM": 1})
    assert seen(nodes, "overtaken") == everywhere("Bea")
    assert different(nodes) == 0


def test_a_repair_writes_nothing_that_the_peers_are_told_again(nodes: RegionNodes) -> None:
    cut(nodes, "EMEA", "APJ")
    insert(nodes, "APJ", "quiet")
    with administrator(nodes.configuration, nodes.node("EMEA")) as connection:
        nodes.run("EMEA", "SELECT pg_create_logical_replication_slot('listener', 'test_decoding')")
        repair.repair(nodes.configuration, settle_seconds=0)
        query = """SELECT data FROM pg_logical_slot_get_changes('listener', NULL, NULL, 'only-local', 'on')
            WHERE data LIKE '%customer_region:%'"""
        heard = rows(connection, query)
        scalar(connection, "SELECT pg_drop_replication_slot('listener')")
    assert seen(nodes, "quiet") == everywhere("Ada")
    assert heard == []
    mend(nodes)


def test_a_node_that_was_killed_catches_up(nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.kill("EMEA")
    insert(nodes, "APJ", "while-away")
    facts = status.status(nodes.configuration)
    assert [line for line in facts["problems"] if line.startswith("EMEA") and "does not answer" in line]
    assert {p["state"] for p in facts["peers"] if "EMEA" in (p["from"], p["to"])} == {"away"}
    # What is kept for it is shown in bytes, and is bounded.
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        for _ in range(17):
            connection.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1048576), true)")
        assert scalar(connection, "SHOW max_slot_wal_keep_size") == "256MB"
    facts = status.status(nodes.configuration, compare=False)
    [kept] = [p for p in facts["peers"] if (p["from"], p["to"]) == ("APJ", "EMEA")]
    assert kept["kept_bytes"] >= kept["lag_bytes"] >= 17 * 2**20
    assert (
        f"EMEA has not been told {kept['lag_bytes']:,} bytes by APJ, which keeps {kept['kept_bytes']:,} for it"
        in (facts["problems"])
    )
    monkeypatch.setattr(status, "LAGGING_BYTES", 2**40)
    monkeypatch.setattr(status, "KEPT_BYTES", 16 * 2**20)
    problems = status.status(nodes.configuration, compare=False)["problems"]
    assert [line for line in problems if line.startswith("APJ keeps ") and "of log for EMEA" in line]
    nodes.start()
    mend(nodes)
    assert seen(nodes, "while-away") == everywhere("Ada")


def test_a_lost_nodes_half_told_changes_reach_everybody_by_the_repair(nodes: RegionNodes) -> None:
    cut(nodes, "LATAM", "APJ")
    insert(nodes, "APJ", "half-told")
    until("the insert on EMEA", lambda: seen(nodes, "half-told").get("EMEA") == "Ada")
    nodes.kill("APJ")
    done = repair.repair(nodes.configuration, settle_seconds=1)
    assert (done.away, done.rows["LATAM"]) == (["APJ"], 1)
    nodes.start()
    mend(nodes)
    assert seen(nodes, "half-told") == everywhere("Ada")


@pytest.mark.parametrize("how", ["disabled", "slot missing", "missing"])
def test_a_subscription_that_stopped_is_named_and_one_command_mends_it(nodes: RegionNodes, how: str) -> None:
    if how == "disabled":
        cut(nodes, "LATAM", "EMEA")
    elif how == "slot missing":
        cut(nodes, "LATAM", "EMEA")
        nodes.run("EMEA", "SELECT pg_drop_replication_slot('emea_to_latam')")
        nodes.run("LATAM", "ALTER SUBSCRIPTION from_emea ENABLE")
    else:
        nodes.run("LATAM", "DROP SUBSCRIPTION from_emea")
    insert(nodes, "EMEA", f"unheard-{how}")
    facts = status.status(nodes.configuration, settle_seconds=1)
    said = f"LATAM is not told by EMEA: {how}: `shardmart fragments repair`"
    assert said in facts["problems"]
    repair.repair(nodes.configuration, settle_seconds=1)
    mend(nodes)
    assert seen(nodes, f"unheard-{how}") == everywhere("Ada")
    assert status.status(nodes.configuration, settle_seconds=WAIT_SECONDS)["problems"] == []


def test_a_slot_that_was_lost_is_shown_and_made_anew(nodes: RegionNodes) -> None:
    """The log that an absent peer may hold back is bounded: here so tightly that its slot goes."""
    nodes.run("EMEA", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        cut(nodes, "LATAM", "EMEA")
        insert(nodes, "EMEA", "slotless")
        with administrator(nodes.configuration, nodes.node("EMEA")) as connection:

            def lost() -> bool:
                connection.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("CHECKPOINT")
                query = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'emea_to_latam'"
                return bool(scalar(connection, query))

            until("the slot to be lost", lost)
        nodes.run("LATAM", "ALTER SUBSCRIPTION from_emea ENABLE")
        assert told(nodes, "LATAM", "EMEA") == "slot lost"
    finally:
        nodes.run("EMEA", "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    done = repair.repair(nodes.configuration, settle_seconds=1)
    assert "LATAM: subscription to EMEA: make anew, its slot is lost" in done.subscriptions
    mend(nodes)
    assert seen(nodes, "slotless") == everywhere("Ada")


def test_a_version_is_later_than_what_it_replaces_whatever_the_clock_says(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "skewed")
    ahead = int(time.time() * 1e6) + 3_600_000_000
    nodes.run(
        "APJ",
        "SET session_replication_role = replica",
        f"UPDATE Customer_Region SET version_time = {ahead} WHERE customer_id = 'skewed'",
    )
    facts = status.status(nodes.configuration, compare=False)
    assert "APJ: 1 rows are stamped in the future: a node's clock is ahead" in facts["problems"]
    repair.repair(nodes.configuration)
    rename(nodes, "EMEA", "skewed", "Bea")
    mend(nodes)
    assert seen(nodes, "skewed") == everywhere("Bea")
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        query = "SELECT version_time - %s FROM Customer_Region WHERE customer_id = 'skewed'"
        assert scalar(connection, query, ahead) == 1
    # A clock that is right again cannot outrun an hour: the key goes for good.
    for region in REGIONS:
        remove = "DELETE FROM Customer_Region WHERE customer_id = 'skewed'"
        nodes.run(region, "SET session_replication_role = replica", remove)


def test_tombstones_end_when_every_node_has_them_and_never_while_one_is_away(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "tomb")
    mend(nodes)
    nodes.run("APJ", "DELETE FROM Customer_Region WHERE customer_id = 'tomb'")
    mend(nodes)
    assert repair.repair(nodes.configuration).tombstones == 0, "younger than a week"
    nodes.kill("LATAM")
    assert repair.repair(nodes.configuration, keep_tombstones_days=0, settle_seconds=1).tombstones == 0
    assert seen_on(nodes, "APJ", "tomb") == [(None,)]
    nodes.start()
    mend(nodes)
    assert repair.repair(nodes.configuration, keep_tombstones_days=0).tombstones >= 1
    assert seen(nodes, "tomb") == {}
    mend(nodes)
    assert (seen(nodes, "tomb"), different(nodes)) == ({}, 0)


def test_what_could_not_converge_is_refused(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "fixed")
    mend(nodes)
    with connect(nodes.configuration, nodes.node("APJ"), autocommit=True) as connection:
        values = "('EMEA', 'alien', 'A', 'a', 'b', 'IT')"
        with pytest.raises(psycopg.errors.CheckViolation, match="is inserted on node EMEA"):
            connection.execute(f"INSERT INTO Customer_Region {COLUMNS} VALUES {values}".encode())
    for name in ("APJ", "EMEA"):
        with connect(nodes.configuration, nodes.node(name), autocommit=True) as connection:
            for key in ("region = 'EMEA'", "customer_id = 'moved'"):
                with pytest.raises(
                    psycopg.errors.FeatureNotSupported, match="the key of customer fixed does not change"
                ):
                    connection.execute(f"UPDATE Customer_Region SET {key} WHERE customer_id = 'fixed'".encode())
            # What the customer's home would refuse, too, and be stopped by.
            for wrong in ("country = 'it'", "customer_name = ''"):
                with pytest.raises(psycopg.errors.CheckViolation):
                    connection.execute(f"UPDATE Customer_Region SET {wrong} WHERE customer_id = 'fixed'".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("ALTER TABLE Customer_Region ADD COLUMN more text")
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        for table in ("Customer_Region", "Shipments"):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"TRUNCATE of .* is refused"):
                connection.execute(f"TRUNCATE {table}".encode())
        assert rows(connection, "SELECT count(*) FROM pg_sequences WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.parametrize(
    ("index", "where"),
    [("customer_name_apj", "region = 'APJ'"), ("customer_name_emea", "region = 'EMEA'"),
     ("customer_name_latam", "region = 'LATAM'"), ("customer_name_", "true")],
)  # fmt: skip
def test_each_index_of_names_is_used(nodes: RegionNodes, index: str, where: str) -> None:
    filler = f"""INSERT INTO Customer_Region {COLUMNS} SELECT 'APJ', 'filler-' || n, 'Name ' || n, 'a', 'b', 'IT'
        FROM generate_series(1, 2000) n ON CONFLICT DO NOTHING"""
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        if not scalar(connection, "SELECT count(*) FROM Customer_Region WHERE customer_id = 'filler-1'"):
            connection.execute(filler.encode())
            for region in ("EMEA", "LATAM"):
                nodes.run(region, filler.replace("'APJ'", f"'{region}'").replace("filler-", f"filler-{region}-"))
            mend(nodes)
        connection.execute("ANALYZE Customer_Region")
        query = f"EXPLAIN (FORMAT JSON) SELECT * FROM Customer_Region WHERE {where} AND customer_name = 'Name 77'"
        plan = json.dumps(scalar(connection, query))
    assert f'"Index Name": "{index}"' in plan


def test_status_repairs_where_that_is_asked_and_only_there(
    nodes: RegionNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    insert(nodes, "APJ", "asked")
    mend(nodes)
    forget(nodes, "EMEA", "asked")
    where = f"--configuration={nodes.file}"
    assert cli.main(["status", "--json", where]) == 1
    assert json.loads(capsys.readouterr().out)["rows_different"] == 1
    cli.main(["status", "--json", "--repair", where])
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows_different"] == 0
    assert "EMEA: 1 rows" in captured.err


def test_a_repair_of_two_nodes_leaves_the_third_as_it_is(nodes: RegionNodes) -> None:
    insert(nodes, "APJ", "third")
    mend(nodes)
    for region in ("EMEA", "LATAM"):
        forget(nodes, region, "third")
    assert cli.main(["repair", "--node=APJ", "--node=EMEA", f"--configuration={nodes.file}"]) == 0
    assert seen(nodes, "third") == {"APJ": "Ada", "EMEA": "Ada"}
    repair.repair(nodes.configuration)
    assert seen(nodes, "third") == everywhere("Ada")


@pytest.mark.full
def test_only_rows_of_ranges_that_differ_are_compared(nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        insert(nodes, "APJ", f"ranged-{number}")
    mend(nodes)
    compared: list[str] = []

    def spy(connection: Connection, query: str, *place: object) -> list[tuple[object, ...]]:
        found = rows(connection, query, *place)
        compared.extend(str(row[1]) for row in found if query == comparison.ROWS)
        return found

    monkeypatch.setattr(comparison, "rows", spy)
    assert (different(nodes), compared) == (0, [])
    forget(nodes, "EMEA", "ranged-7")
    assert different(nodes) == 1
    query = f"SELECT customer_id, hashtext(customer_id) & {comparison.RANGES - 1} FROM Customer_Region"
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        ranges = {str(key): number for key, number in rows(connection, query)}
    assert "ranged-7" in compared
    assert {ranges[key] for key in compared} == {ranges["ranged-7"]}
    repair.repair(nodes.configuration)


def test_an_apply_waits_for_the_subscriptions_that_another_works_on(nodes: RegionNodes) -> None:
    """On Kubernetes the timer's first repair may meet the bootstrap."""
    node = nodes.configuration.nodes[0]
    changes: list[list[str]] = []
    work = threading.Thread(target=lambda: changes.append(subscriptions.converge(nodes.configuration)))
    with administrator(nodes.configuration, node) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (subscriptions.LOCK,))
        work.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until("the other one to wait", lambda: bool(scalar(connection, waiting)))
        assert changes == []
    work.join(WAIT_SECONDS)
    assert changes == [[]]
