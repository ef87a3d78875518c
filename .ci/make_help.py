"""`make help`: the targets of the Makefile by what a person does, from its lines `target: … ## [GROUP] TEXT`.

A line `## [GROUP] COMMAND | TEXT` is a command that is no target.
"""

import re
import sys
from pathlib import Path

GROUPS = ("start", "look", "break", "stop", "test", "maintain")
LINE = re.compile(r"^(?:([a-z0-9-]+):[^#\n]*)?## \[([a-z]+)\] (?:([^|\n]+) \| )?(.+)$", re.MULTILINE)


def groups(makefile: str) -> dict[str, list[tuple[str, str]]]:
    """Group to its commands, each with its text, in the order of the file."""
    found: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for target, group, command, text in LINE.findall(makefile):
        found[group].append((f"make {target}" if target else command, text))
    return found


def main() -> None:
    """Print them."""
    for group, commands in groups(Path(sys.argv[1]).read_text()).items():
        print(group.capitalize())
        for command, text in commands:
            print(f"  {command:<21} {text}" if len(command) <= 21 else f"  {command}\n{'':24}{text}")
        print()


if __name__ == "__main__":
    main()
