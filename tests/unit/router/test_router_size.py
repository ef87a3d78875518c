"""The router does not grow: decision 030 says how many lines of code it has at most."""

from __future__ import annotations

import re

from tests.support.clusters import ROOT
from tests.support.router_size import ROUTER, by_room, lines_of_code


def test_a_line_of_code_is_no_blank_no_comment_and_no_docstring() -> None:
    function = 'def f(\n    a: int,  # one\n) -> str:\n    """Another."""\n    return """two\nlines"""\n'
    source = f'"""A\n\ndocstring."""\n\n# a comment\n{function}'
    assert lines_of_code(source) == 5


def test_router_is_not_larger_than_its_decision_says() -> None:
    decision = (ROOT / "docs" / "decisions" / "030-the-routers-size.md").read_text()
    (total,) = re.findall(r"^\| \| ([\d,]+) \|$", decision, re.MULTILINE)
    assert by_room().total() <= int(total.replace(",", "")), by_room()


def test_no_file_of_the_router_has_four_hundred_lines() -> None:
    sizes = {path.name: len(path.read_text().splitlines()) for path in ROUTER.rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size >= 400} == {}
