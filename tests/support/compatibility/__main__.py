"""Say what of MongoDB the code uses and what is known of it; write, or check, docs/compatibility.md.

    python -m tests.support.compatibility [--write | --check | --json]

Without an option it prints what is used. Exit codes: 0 done, 1 something is used that findings.yml does not know or the
page is not what this makes, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys

from .derive import derive
from .findings import FILE, load
from .page import page, unknown
from .use import ROOT, by_name

PAGE = ROOT / "docs" / "compatibility.md"


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.compatibility",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    choice.add_argument("--check", action="store_true", help="fail when docs/compatibility.md is another")
    choice.add_argument("--json", action="store_true", help="every use with file and line, and what is known of it")
    chosen = parser.parse_args(arguments)
    uses, unfollowed = derive()
    findings = load()
    faults = [f"{one.path}:{one.line}: which command is {one.expression}?" for one in unfollowed]
    faults += [
        f"unknown: {line}; look it up and enter it in {FILE.relative_to(ROOT)}" for line in unknown(uses, findings)
    ]
    if chosen.json:
        print(json.dumps(_document(), indent=2, ensure_ascii=False))
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    made = page(uses, findings)
    if chosen.write:
        PAGE.write_text(made)
        print(f"wrote {PAGE.relative_to(ROOT)}")
    elif chosen.check:
        if not PAGE.exists() or PAGE.read_text() != made:
            print(f"{PAGE.relative_to(ROOT)} is not what the code uses: make compatibility", file=sys.stderr)
            return 1
    elif not chosen.json:
        for (kind, name), places in by_name(uses).items():
            print(f"{kind}: {name} ({len(places)} places, first {places[0].path}:{places[0].line})")
    return 0


def _document() -> list[dict[str, object]]:
    uses, _ = derive()
    findings = load()
    return [
        {
            "kind": kind,
            "name": name,
            "places": [f"{place.path}:{place.line}" for place in places],
            "versions": dict(known.versions) if (known := findings.known.get((kind, name))) else None,
            "sources": list(known.sources) if known else [],
            "remark": known.remark if known else "",
        }
        for (kind, name), places in by_name(uses).items()
    ]


if __name__ == "__main__":
    sys.exit(main())
