"""Every page that a reader opens: its tables are tables, its links lead somewhere, its commands exist."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown_it import MarkdownIt
from markdown_it.token import Token

from shardmart.cli import COMMANDS
from shardmart.router.cli import parser as router_parser

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
MODULES = {"fragments": "shardmart.fragments.cli"}
"""Where the app is of a command whose module leads to another."""
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


def _command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The click command that the words after `shardmart` lead to, and what is left of them."""
    if words[0] == "router":  # the one that is no app of typer's
        return None, words[1:]
    module = importlib.import_module(MODULES.get(words[0]) or COMMANDS[words[0]][0])
    command: Any = typer.main.get_command(module.app)
    rest = words[1:]
    while rest and not rest[0].startswith("-") and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def _wrong(line: str) -> str | None:
    """What is wrong with a command line as a page has it; None when it is right, or not one to run as it stands."""
    line = re.split(r"\s+#|\s*[|>;\\]\s", line + " ")[0].strip()
    if not line or "…" in line:
        return None
    words = shlex.split(line)
    if words[0] not in COMMANDS:
        return f"shardmart {line}: no such command"
    command, rest = _command_of(words)
    if command is None:
        options = set(re.findall(r"--\w[\w-]*", router_parser().format_help()))
    elif getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        return f"shardmart {line}: no command {rest[0]!r}"
    else:
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
    return f"shardmart {line}: no {', '.join(unknown)}" if unknown else None


@BY_NAME
def test_every_command_line_of_ours_that_a_page_shows_is_understood(page: Path) -> None:
    """Its commands and options exist, but for those of CHANGELOG.md, which tells of former ones."""
    lines = re.findall(
        r"(?:`|^\$ (?:sudo -E )?|^ {4})(?:\S*/)?shardmart ([a-z][^`\n]*)", page.read_text(), re.MULTILINE
    )
    assert page.name == "CHANGELOG.md" or [wrong for line in lines if (wrong := _wrong(line))] == []


@BY_NAME
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """A name that ends in an ellipsis is the beginning of one."""
    named = re.findall(r"`(?:[\w/]+/)?(test_\w+)(…?)", page.read_text())
    missing = [name for name, cut in named if not any(t.startswith(name) if cut else t == name for t in TESTS)]
    assert missing == []


def test_the_readme_leads_to_every_page_of_docs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name}" not in readme] == []
