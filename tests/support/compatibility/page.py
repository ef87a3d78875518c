"""docs/compatibility.md, made from what the code uses and what was found about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from .findings import STATES, Findings
from .use import Kind, Use, by_name

TITLES = {
    Kind.COMMAND: "Commands",
    Kind.PARAMETER: "Server parameters",
    Kind.CONFIGURATION: "Keys of mongod.conf, and options of mongod and mongos",
    Kind.CONFIG_FIELD: "Fields of `config.*`",
    Kind.ROLE: "Built-in roles",
    Kind.ACTION: "Privilege actions",
    Kind.ERROR_CODE: "Error codes",
}
BEGIN = """\
# Compatibility with versions of MongoDB

Made by `make compatibility` from the code and from `tests/support/compatibility/findings.yml`; do not edit it here.

What stands here is everything of the server that this project uses, and what is known of it in each version. The
development router is left out: it speaks the servers' internal protocol and is only ever put in front of 6.0.

What has run here is 6.0 (6.0.5 and 6.0.27), with the development router in place of mongos. Versions 7.0 to 8.3, and a
real mongos of any version, were only ever read about. 9.0 is not looked at.
"""


def unknown(uses: Iterable[Use], findings: Findings) -> list[str]:
    """What the code uses and nothing is known about, with the first place of each."""
    return [
        f"{kind} {name} ({places[0].path}:{places[0].line})"
        for (kind, name), places in by_name(uses).items()
        if (kind, name) not in findings.known
    ]


def page(uses: Iterable[Use], findings: Findings) -> str:
    """The whole page; KeyError for a use that is not known."""
    return "\n".join(_lines(list(uses), findings)) + "\n"


def _lines(uses: list[Use], findings: Findings) -> Iterator[str]:
    yield BEGIN
    for state, meaning in STATES.items():
        yield f"- `{state}`: {meaning}"
    yield ""
    yield from _differences(uses, findings)
    used: set[str] = set()
    for kind in Kind:
        rows = {name: places for (one, name), places in by_name(uses).items() if one is kind}
        if not rows:
            continue
        yield f"## {TITLES[kind]}\n"
        yield f"| name | where | {' | '.join(findings.versions)} | source |"
        yield f"|---|---|{'---|' * len(findings.versions)}---|"
        for name, places in rows.items():
            found = findings.known[kind, name]
            used |= set(found.sources)
            states = " | ".join(found.versions[version] for version in findings.versions)
            title = f"`{name}` {found.remark.split('.')[0]}" if kind is Kind.ERROR_CODE else f"`{name}`"
            yield f"| {title} | {', '.join(_areas(places))} | {states} | {', '.join(found.sources)} |"
        yield ""
    yield "## Not used, and good to know\n"
    for kind, name in sorted(findings.known.keys() - by_name(uses).keys()):
        if kind is not Kind.ERROR_CODE and (remark := findings.known[kind, name].remark):
            yield f"- `{name}`: {' '.join(remark.split())}"
            used |= set(findings.known[kind, name].sources)
    yield ""
    yield "## Sources\n"
    for source, text in findings.sources.items():
        if source in used:
            yield f"- {source}: {' '.join(text.split())}"


def _differences(uses: list[Use], findings: Findings) -> Iterator[str]:
    yield "## What differs, and what has to be known\n"
    told: dict[str, list[str]] = {}
    for kind, name in by_name(uses):
        remark = findings.known[kind, name].remark
        if (remark and kind is not Kind.ERROR_CODE) or "differs" in findings.known[kind, name].versions.values():
            told.setdefault(" ".join(remark.split()), []).append(f"`{name}`")
    for remark, names in told.items():
        yield f"- {', '.join(names)}: {remark}"
    yield ""


def _areas(places: Iterable[Use]) -> list[str]:
    """The parts of the project, not files and lines: those would change with every commit."""
    return sorted({area_of(place.path) for place in places})


def area_of(path: str) -> str:
    """`src/shardmart/cluster/x.py` is of `cluster`, `helm/sharded-mongodb/…` of `helm/sharded-mongodb`."""
    parts = PurePath(re.sub(r"^src/shardmart/", "", path)).parts
    if parts[0] == "helm":
        return "/".join(parts[:2])
    return parts[0].removesuffix(".py")
