#!/usr/bin/env python3
"""Writes the table of values into each chart's README from the comments of its values.yaml.

Run by hand after a change (`python helm/values_table.py`); with `--check`, as the tests run it, it changes nothing and
exits 1 when the README is not up to date.  A key is documented by the lines before it that start with `# --`.
It never reads anything but those two files of a chart.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHARTS = tuple(Path(__file__).parent / name for name in ("sharded-mongodb", "shop", "ring", "fragments"))
BEGIN, END = "<!-- values: begin (helm/values_table.py) -->", "<!-- values: end -->"


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Every documented key of values.yaml, dotted, with its description."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"\s*# -- (.*)", line):
            comment = [match[1]]
        elif comment and (match := re.match(r"\s*# (.*)", line)):
            comment.append(match[1])
        elif match := re.match(r"( *)([A-Za-z]\w*):", line):
            indent = len(match[1])
            path = [*((depth, key) for depth, key in path if depth < indent), (indent, match[2])]
            if comment:
                yield ".".join(key for _, key in path), " ".join(comment)
            comment = []
        else:
            comment = []


def default(values: Any, key: str) -> str:
    """The default of a dotted key as compact JSON."""
    for part in key.split("."):
        values = values[part]
    text = json.dumps(values)
    return f"`{text}`" if len(text) < 90 else "see values.yaml"


def table(text: str) -> str:
    """The Markdown table."""
    values = yaml.safe_load(text)
    rows = [
        f"| `{key}` | {default(values, key)} | {words.replace('|', chr(92) + '|')} |" for key, words in documented(text)
    ]
    return "\n".join(["| value | default | what it does |", "|---|---|---|", *rows])


def main() -> int:
    """Write or check; 1 when the check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the README is out of date")
    arguments = parser.parse_args()
    return max(_keep(chart, check=arguments.check) for chart in CHARTS)


def _keep(chart: Path, *, check: bool) -> int:
    readme = chart / "README.md"
    before = readme.read_text()
    head, rest = before.split(BEGIN)
    after = f"{head}{BEGIN}\n{table((chart / 'values.yaml').read_text())}\n{END}{rest.split(END)[1]}"
    if after == before:
        return 0
    if check:
        print(
            f"{chart.name}: README's table is out of date: run `python helm/values_table.py`",
            file=sys.stderr,
        )
        return 1
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
