"""What was found about each thing in the versions of the server: findings.yml, checked while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .use import Kind

FILE = Path(__file__).with_name("findings.yml")
STATES = {
    "run": "was run on a real server of this version",
    "router": "was run on mongod of this version through the development router, never through a mongos",
    "read": "was read in the sources named, never run",
    "differs": "was read, and is not as in 6.0: see the remark",
    "none": "is not there",
}
"""What is known of a thing in a version."""


@dataclass(frozen=True)
class Finding:
    """One thing: a state by version, where that was read, and what differs or has to be known."""

    kind: Kind
    name: str
    versions: Mapping[str, str]
    sources: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that is known; `sources` says by short name what was read, or run."""

    versions: tuple[str, ...]
    sources: Mapping[str, str]
    known: Mapping[tuple[Kind, str], Finding]


def load(file: Path = FILE) -> Findings:
    """Read the findings; ValueError, by the entry, when one is incomplete or there twice."""
    document = yaml.safe_load(file.read_text())
    versions = tuple(document["versions"])
    known: dict[tuple[Kind, str], Finding] = {}
    for number, entry in enumerate(document["findings"]):
        for finding in _of(entry, versions, document["sources"], f"findings[{number}]"):
            if known.setdefault((finding.kind, finding.name), finding) is not finding:
                raise ValueError(f"findings[{number}]: {finding.kind} {finding.name} is there twice")
    return Findings(versions, document["sources"], known)


def _of(entry: Mapping[str, Any], versions: tuple[str, ...], sources: Mapping[str, str], key: str) -> list[Finding]:
    if faults := set(entry) - {"kind", "names", "states", "sources", "remark"}:
        raise ValueError(f"{key}: unknown key {', '.join(sorted(faults))}")
    states = entry["states"]
    if len(states) != len(versions) or not set(states) <= STATES.keys():
        raise ValueError(f"{key}.states: one of {', '.join(STATES)} for each of {', '.join(versions)}")
    if missing := set(entry["sources"]) - sources.keys() or not entry["sources"]:
        raise ValueError(f"{key}.sources: no source {missing}")
    if "differs" in states and not entry.get("remark"):
        raise ValueError(f"{key}.remark: say what differs")
    by_version = dict(zip(versions, states, strict=True))
    return [
        Finding(Kind(entry["kind"]), str(name), by_version, tuple(entry["sources"]), entry.get("remark", "").strip())
        for name in entry["names"]
    ]
