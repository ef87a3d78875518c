"""Every page that a reader opens: its tables are tables, its links lead somewhere, its commands exist."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md")) + sorted(page for room in ROOT.glob("[!.]*/") for page in room.rglob("*.md"))
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
MARKDOWN = MarkdownIt("commonmark").enable("table")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in (file.stem, *re.findall(r"def (test_\w+)", file.read_text()))
}
# What a page may name although a checkout has no such file: the reader's own, or what a run makes.
OF_THE_READER = re.compile(r"(mine|yours|my-.*|NAME|EXPERIMENT|TOPOLOGY|latency-mine)\b")


def _tokens(page: Path) -> Iterator[Token]:
    for token in MARKDOWN.parse(page.read_text()):
        yield token
        yield from token.children or []


def _anchors(page: Path) -> set[str]:
    """The fragments by which a page's headings are linked to, as the forges make them."""
    lines = [token for token in MARKDOWN.parse(page.read_text()) if token.type in ("heading_open", "inline")]
    headings = [b.content for a, b in itertools.pairwise(lines) if a.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h).lower()).strip().replace(" ", "-") for h in headings}


def _cells(row: str) -> int:
    """How many cells a line of a table has; a vertical bar after a backslash is no border."""
    return len(re.findall(r"(?<!\\)\|", row.strip())) - 1


@BY_NAME
def test_every_line_of_cells_belongs_to_a_table_with_a_header(page: Path) -> None:
    lines = page.read_text().splitlines()
    tokens = MARKDOWN.parse(page.read_text())
    inside: set[int] = set()
    wrong: list[str] = []
    for token in tokens:
        if token.map is None:
            continue
        if token.type in ("fence", "code_block"):
            inside |= set(range(*token.map))
        if token.type == "table_open":
            first, end = token.map
            inside |= set(range(first, end))
            columns = _cells(lines[first])
            wrong += [f"{n + 1}: {lines[n]}" for n in range(first, end) if _cells(lines[n]) != columns]
    wrong += [f"{n + 1}: {line}" for n, line in enumerate(lines) if line.startswith("|") and n not in inside]
    assert wrong == []


@BY_NAME
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    broken: list[str] = []
    for token in _tokens(page):
        link = str(token.attrGet("href") or token.attrGet("src") or "")
        if not link or re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (heading and heading not in _anchors(file)):
            broken.append(link)
    assert broken == []


@BY_NAME
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"(?:^\$ |`)make ([a-z][a-z0-9-]*)", text, re.MULTILINE))
    files = set(
        re.findall(r"(?<![\w/.-])((?:playbooks|chaos|inventories|benchmarks)/[\w/-]+\.(?:json|yml|py))\b", text)
    )
    missing = [f"make {name}" for name in named - TARGETS]
    missing += [name for name in files if not OF_THE_READER.match(Path(name).name) and not (ROOT / name).exists()]
    assert missing == []


@BY_NAME
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """A name that ends in an ellipsis is the beginning of one."""
    named = re.findall(r"`(?:[\w/]+/)?(test_\w+)(…?)", page.read_text())
    missing = [name for name, cut in named if not any(t.startswith(name) if cut else t == name for t in TESTS)]
    assert missing == []


def test_the_readme_leads_to_every_page_of_docs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name}" not in readme] == []
