"""pytest imports test modules by their name alone; of two that share one in a run it leaves one out, with an error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize("run", ["unit", "integration", "e2e"])
def test_no_two_test_modules_of_a_run_have_one_name(run: str) -> None:
    modules = [path.name for path in (TESTS / run).rglob("test_*.py")]
    assert len(modules) > 5
    assert [name for name, count in Counter(modules).items() if count > 1] == []
