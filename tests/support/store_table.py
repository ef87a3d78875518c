"""A table of the store contract, a column for each store, as a run of pytest saw it:

    python -m pytest -p tests.support.store_table tests/integration/shop/store/test_store_contract.py

It says of each store what it did not run, and why.  Nothing here runs or leaves out a test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

ID = re.compile(r"test_store_contract\.py::test_(\w+)\[([a-z]+)(?:-.*)?\]$", re.DOTALL)
ONLY_FULL = "only with --full"
Seen = dict[str, dict[str, list[str]]]
"""Claim → store → how each of its tests ended."""


class StoreTable:
    """What was seen so far."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.reasons: dict[str, str] = {}

    def note(self, nodeid: str, outcome: str, reason: str = "") -> None:
        """Keep how a test ended; others than those of the contract are passed over."""
        if found := ID.search(nodeid):
            claim, store = found[1].replace("_", " "), found[2]
            self.seen.setdefault(claim, {}).setdefault(store, []).append(outcome)
            if reason:
                self.reasons[store] = reason

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test ended, or its setup did not succeed."""
        if report.when == "call" or not report.passed:
            why = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            self.note(report.nodeid, report.outcome, why)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Tests are left out: by their marker, or because somebody asked for others, which says nothing of a store."""
        for item in items:
            if item.get_closest_marker("full") and not item.config.getoption("--full"):
                self.note(item.nodeid, "skipped", ONLY_FULL)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print it."""
        terminalreporter.write_line("\n".join(table(self.seen, self.reasons)))


def table(seen: Seen, reasons: dict[str, str]) -> list[str]:
    """The lines of the table, and a reason for each store that was not run."""
    stores = list(dict.fromkeys(store for each in seen.values() for store in each))
    lines = [f"| the store's claim | {' | '.join(stores)} |", f"|---|{'---|' * len(stores)}"]
    for claim, each in seen.items():
        lines.append(f"| {claim} | {' | '.join(cell(each.get(store, [])) for store in stores)} |")
    return [*lines, "", *(f"- {store}: not run: {why}" for store, why in reasons.items())]


def cell(outcomes: Sequence[str]) -> str:
    """What a claim's tests of one store came to."""
    if "failed" in outcomes:
        return "**failed**"
    if not outcomes or "skipped" in outcomes:
        return "not run"
    return f"{len(outcomes)} passed" if len(outcomes) > 1 else "passed"


def pytest_configure(config: pytest.Config) -> None:
    """Look at this run; with pytest-xdist the process that started the workers does."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(StoreTable())
