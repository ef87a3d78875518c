"""The table over many runs: what it counts, and for whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.observation import heartbeats
from shardmart.chaos.report.runs import read_summary
from shardmart.chaos.report.shop_table import ShopRow, shop_rows
from shardmart.chaos.report.shop_table import markdown as shop_markdown
from shardmart.chaos.report.table import Row, markdown, summarize
from shardmart.ledger import journal

CLEAN = {"acknowledged": 100, "lost": 0, "doubled": 0, "counts": {}}


def run(runs: Path, name: str, *, title: str = "Kill", started: float = 1000.0, **changes: Any) -> Path:
    """A finished experiment that took a minute; its shard was without writes from second 10 to `back`."""
    folder = runs / name
    folder.mkdir(parents=True)
    back = changes.pop("back", 15)
    proof = {"name": "proof: gone", "value": True, "met": True}
    summary = {"title": title, "started": started, "ended": started + 60, "status": "passed", "verdict": CLEAN}
    (folder / "summary.json").write_text(json.dumps(summary | {"measured": [proof]} | changes))
    fault = {"at": started + 11, "event": "fault-started", "id": "f", "name": "kill", "targets": [], "words": "kill"}
    events = [fault, {"at": started + 12, "event": "election", "set": "s1", "primary": "b"}]
    (folder / "events.json").write_text(json.dumps(changes.get("events", events)))
    moments = [1, 10, back, *range(back + 1, 61)]
    beats = [{"shard": "s1", "sent": started + m, "answered": started + m, "ok": True} for m in moments]
    (folder / "writability.jsonl").write_text("".join(json.dumps(beat) + "\n" for beat in beats))
    return folder


def test_run_is_one_row(tmp_path: Path) -> None:
    run(tmp_path, "a")
    assert summarize(tmp_path) == [Row("Kill", 1, 1, "gone = True", 5.0, 5.0, 100, 0, 0, 0)]


def test_runs_of_one_experiment_are_summed_up(tmp_path: Path) -> None:
    bad = {"acknowledged": 50, "lost": 2, "doubled": 1, "counts": {"lost": 2, "doubled": 1}}
    run(tmp_path, "a")
    run(tmp_path, "b", back=20, status="failed", verdict=bad)
    run(tmp_path, "c", back=40)
    (row,) = summarize(tmp_path)
    assert (row.runs, row.passed) == (3, 2)
    assert (row.median_s, row.worst_s) == (10.0, 30.0)
    assert (row.acknowledged, row.lost, row.doubled, row.anomalies) == (250, 2, 1, 3)


def test_time_without_writes_is_counted_from_the_fault_and_not_from_an_election(tmp_path: Path) -> None:
    fault = {"at": 1011.0, "event": "fault-started", "id": "f", "name": "kill", "targets": [], "words": "kill"}
    run(tmp_path, "a", events=[fault, {"at": 1030.0, "event": "election", "set": "s1", "primary": "b"}])
    assert summarize(tmp_path)[0].worst_s == 5.0
    run(tmp_path, "b", events=[{"at": 1005.0, "event": "election", "set": "s1", "primary": "b"}])
    assert summarize(tmp_path)[0].median_s == 5.0, "without a fault nothing is measured"


def test_experiments_are_told_apart_and_old_runs_left_out(tmp_path: Path) -> None:
    run(tmp_path, "a", title="Old", started=10.0)
    run(tmp_path, "b", title="Kill", started=1000.0)
    run(tmp_path, "c", title="Pause", started=2000.0)
    assert [row.title for row in summarize(tmp_path, since=1000.0)] == ["Kill", "Pause"]


def test_run_without_fault_or_verdict_says_nothing_of_them(tmp_path: Path) -> None:
    run(tmp_path, "a", events=[], verdict=None, measured=[{"name": "p50", "value": 1, "met": True}])
    (row,) = summarize(tmp_path)
    assert row == Row("Kill", 1, 1, "-", None, None, 0, 0, 0, 0)
    assert markdown([row]).splitlines()[-1] == "| Kill | 1/1 | - | - | - | 0 | 0 | 0 |"


def test_where_there_are_no_heartbeats_the_longest_time_a_client_waited_for_an_answer_counts(tmp_path: Path) -> None:
    folder = run(tmp_path, "a")
    (folder / "writability.jsonl").write_text("")
    assert summarize(tmp_path)[0].median_s is None, "what was not measured is no zero"
    journal.Run("r", ("carts",), "ledger", 2, 0, "majority", 1000.0, 0).write(folder / "ledger")
    for client, ends in enumerate(([5.0, 10.5, 14.0, *range(15, 61)], [*range(1, 61)])):
        lines = [
            {"n": n, "e": event, "t": int((end - wait) * 1e9), "f": "put", "v": {}}
            for n, end in enumerate(ends)
            for event, wait in (("invoke", 0.1), ("ok", 0.0))
        ]
        lines += [{"n": 99, "e": "invoke", "t": 0, "f": "put", "v": {}}, {"n": 99, "e": "failed", "t": int(12e9)}]
        journal.journal_path(folder / "ledger", "carts", client).write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert summarize(tmp_path)[0].median_s == pytest.approx(3.5)


def test_table_shows_hundredths_of_a_second(tmp_path: Path) -> None:
    row = Row("Kill", 3, 2, "gone = True", 1.234, 11.0, 12345, 2, 1, 3)
    assert markdown([row]).splitlines()[-1] == "| Kill | 2/3 | gone = True | 1.23 | 11.00 | 12,345 | 2 | 1 |"


def test_folder_without_a_finished_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChaosError, match=r"holds no finished experiment \(summary.json is missing\)"):
        read_summary(tmp_path)


def test_shard_is_writable_when_a_recent_heartbeat_of_it_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats.time, "time", lambda: 100.0)
    beats = [("s1", 97.0, True), ("s2", 99.0, False), ("s3", 96.9, True)]
    lines = [json.dumps({"shard": s, "sent": at, "answered": at, "ok": ok}) for s, at, ok in beats]
    (tmp_path / heartbeats.FILE).write_text("\n".join(lines) + "\n")
    found = {shard: heartbeats.is_writable(tmp_path, shard, 3) for shard in ("s1", "s2", "s3", "s4")}
    assert found == {"s1": True, "s2": False, "s3": False, "s4": False}


def test_without_heartbeats_nobody_is_writable(tmp_path: Path) -> None:
    assert heartbeats.is_writable(tmp_path, "s1", 3) is False
    assert heartbeats.outages(tmp_path) == {}


def test_outage_counts_to_the_moment_asked_for(tmp_path: Path) -> None:
    beats = [("s1", 1.0, True), ("s1", 5.0, True), ("s1", 40.0, True)]
    lines = [json.dumps({"shard": s, "sent": at, "answered": at, "ok": ok}) for s, at, ok in beats]
    (tmp_path / heartbeats.FILE).write_text("\n".join(lines) + "\n")
    assert heartbeats.outages(tmp_path)["s1"] == heartbeats.Outage("s1", 5.0, 35.0)
    assert heartbeats.outages(tmp_path, until=20.0)["s1"] == heartbeats.Outage("s1", 5.0, 15.0)
    assert heartbeats.outages(tmp_path, until=40.0)["s1"] == heartbeats.Outage("s1", 5.0, 35.0)
    # What began before the fault counts from the last write that was acknowledged, not from the fault.
    assert heartbeats.outages(tmp_path, since=6.0)["s1"] == heartbeats.Outage("s1", 5.0, 35.0)
    assert heartbeats.outages(tmp_path, since=5.0, until=6.0)["s1"] == heartbeats.Outage("s1", 5.0, 1.0)


FIGURES = {"accepted": 9, "confirmed": 5, "cancelled": 4, "lost": 0, "charged-twice": 1, "oversold": 2}


def test_what_became_of_a_shops_orders_is_a_table_of_its_own(tmp_path: Path) -> None:
    silent = {"name": "time without an answer (s)", "value": 1.25, "met": True}
    run(tmp_path, "a", title="Kill", status="failed", verdict=CLEAN | {"figures": {"shop": FIGURES}}, measured=[silent])
    run(tmp_path, "b", title="Other")
    rows = shop_rows(tmp_path)
    assert rows == [ShopRow("Kill", False, 9, 5, 4, 0, 1, 2, 1.25)]
    assert shop_markdown(rows).splitlines()[-1] == "| Kill | failed | 9 | 5 | 4 | 0 | 1 | 2 | 1.2 |"
    assert shop_rows(tmp_path, since=2000.0) == []
