"""What a pytest run did, in a file: the outcome of every test, and why tests were skipped.

Registered by tests/conftest.py when `SHARDMART_REPORT` names the file; `.ci/run` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ORDER = ("passed", "skipped", "failed")
"""Of setup, call and teardown of a test the worst outcome counts."""


class Report:
    """Collects outcomes by node id, and writes them when the session ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._outcomes: dict[str, str] = {}
        self._skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test has ended."""
        before = self._outcomes.get(report.nodeid, "passed")
        self._outcomes[report.nodeid] = max(before, report.outcome, key=ORDER.index)
        if report.skipped and isinstance(report.longrepr, tuple):
            self._skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected counts as a test that failed."""
        if report.failed:
            self._outcomes[report.nodeid] = "failed"

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self._file.write_text(json.dumps({"outcomes": self._outcomes, "skipped": self._skipped}, indent=1))
