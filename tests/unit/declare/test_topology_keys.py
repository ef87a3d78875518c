"""docs/topology.md has every key of the topology, with its type and default as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.topology_keys import rows

PAGE = Path(__file__).parents[3] / "docs" / "topology.md"


def test_every_key_stands_in_the_manual_with_its_type_and_default() -> None:
    lines = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {key: (takes, default) for key, takes, default, _, _ in lines}
    missing = {key: f"| `{key}` | {takes} | {default} |" for key, (takes, default) in rows().items()}
    assert [row for key, row in missing.items() if told.get(key) != rows()[key]] == []
    assert list(told) == list(rows()), "in the order of the code, and none that there is not"
    assert [line for line in lines if len(line[3]) < 5 or not line[4].startswith(("both", "one machine"))] == []
