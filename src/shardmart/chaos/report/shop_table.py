"""Runs under the orders of a shop in one table: what became of the orders, and how long nobody was answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .runs import SUMMARY

WORKLOAD = "shop"
SILENCE = "time without an answer (s)"
"""The probe that measures it, as the experiments call it."""


@dataclass(frozen=True)
class ShopRow:
    """The last run of one experiment; `silent_s` is None where it was not measured."""

    title: str
    passed: bool
    accepted: int
    confirmed: int
    cancelled: int
    lost: int
    charged_twice: int
    oversold: int
    silent_s: float | None


def shop_rows(runs: Path, since: float = 0.0) -> list[ShopRow]:
    """One row for each experiment among the finished runs in a folder that began after `since` and had a shop."""
    found: dict[str, ShopRow] = {}
    for file in sorted(runs.glob(f"*/{SUMMARY}")):
        summary = json.loads(file.read_text())
        figures = (summary.get("verdict") or {}).get("figures", {}).get(WORKLOAD)
        if figures is None or summary["started"] < since:
            continue
        silent = [probe["value"] for probe in summary["measured"] if probe["name"] == SILENCE]
        found[summary["title"]] = ShopRow(
            summary["title"],
            summary["status"] == "passed",
            figures["accepted"],
            figures["confirmed"],
            figures["cancelled"],
            figures["lost"],
            figures["charged-twice"],
            figures["oversold"],
            silent[-1] if silent else None,
        )
    return [found[title] for title in sorted(found)]


def markdown(rows: list[ShopRow]) -> str:
    """The table for people and for documents."""
    lines = [
        "| experiment | verdict | orders accepted | confirmed | cancelled | lost | double charges | oversold"
        " | seconds without an answer |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        silent = "-" if row.silent_s is None else f"{row.silent_s:.1f}"
        lines.append(
            f"| {row.title} | {'passed' if row.passed else 'failed'} | {row.accepted:,} | {row.confirmed:,} |"
            f" {row.cancelled:,} | {row.lost} | {row.charged_twice} | {row.oversold} | {silent} |"
        )
    return "\n".join(lines)
