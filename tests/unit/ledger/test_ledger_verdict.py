"""The verdict: what it keeps of each kind of anomaly, counts and says."""

from __future__ import annotations

import pytest

from shardmart.ledger.checks.verdict import EXAMPLES, Verdict


def test_a_verdict_keeps_ten_of_a_kind_and_counts_all() -> None:
    verdict = Verdict("run")
    for number in range(EXAMPLES + 3):
        assert verdict.wants("lost") is (number < EXAMPLES)
        verdict.add("lost", "orders", str(number))
    verdict.add("members", "members", "x")
    verdict.add("doubled", "orders", "y")
    verdict.count("orders", "ok")
    verdict.count("stock", "ok")
    verdict.count("stock", "unknown")
    document = verdict.as_json()
    assert [anomaly["detail"] for anomaly in document["anomalies"]] == [*map(str, range(EXAMPLES)), "y", "x"]
    assert (document["lost"], document["doubled"], document["acknowledged"]) == (13, 1, 2)
    assert document["operations"] == {"orders": {"ok": 1}, "stock": {"ok": 1, "unknown": 1}}
    assert not document["clean"]
    assert document["sentence"] == "NOT clean: doubled 1, lost 13, members 1 (of 2 acknowledged operations)"


def test_a_kind_nobody_declared_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Verdict("run").add("odd", "orders", "x")


def test_a_clean_verdict_says_so() -> None:
    verdict = Verdict("run")
    verdict.count("orders", "ok")
    assert verdict.clean
    assert verdict.sentence() == "clean: all 1 acknowledged operations are accounted for; lost 0, doubled 0"
