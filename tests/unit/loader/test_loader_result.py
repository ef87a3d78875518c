"""The result as people see it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shardmart.loader.batches import Tally
from shardmart.loader.result import CollectionResult, Result
from shardmart.loader.survey import Placement


@pytest.mark.parametrize("mode", ["load", "check", "dry-run"])
def test_tables_of_ten_million_orders_and_four_shards_fit_80_columns(mode: str) -> None:
    shards = {f"shard{n}ReplSet": 2_500_123 for n in range(1, 5)}
    tally = Tally(written=9_000_000, present=1_000_000, compared=10_000_000, bytes=2_610_000_000)
    placement = Placement(shards, dict.fromkeys(shards, 2_500_000.0))
    result = Result(1, mode, verified=mode != "dry-run")
    result.collections = {"orders": CollectionResult(10_000_000, tally, 1234.5, 987.6, placement)}
    output = io.StringIO()
    result.render(Console(file=output, width=80))
    text = output.getvalue()
    assert "…" not in text
    for shown in ("10,000,000", "2,610", "shard4ReplSet", "2,500,123", "2,500,000"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 80
    (orders,) = [line for line in text.splitlines() if line.strip().startswith("orders") and "10,000,000" in line]
    assert "2,610" in orders, "the row is broken over two lines"
