"""docs/ring.md names a test for each rule; each is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "ring.md").read_text()))
    files = [*(ROOT / "tests" / "integration" / "ring").glob("*.py"), *Path(__file__).parent.glob("*.py")]
    there = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)}
    assert len(named) > 20
    assert named - there == set()
