"""Put what a command prints into the README: `python benchmarks/into_readme.py NAME -- COMMAND ...`.

Replaces the lines between `<!-- NAME: ... -->` and `<!-- /NAME -->` by the command's output, and notes the command,
so that every figure in the README stands beside what made it.  A command that fails changes nothing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import command_line

README = Path(__file__).parents[1] / "README.md"


def main(arguments: list[str]) -> int:
    """Run the command and replace the block; 2 when the README has no such block, else the command's exit code."""
    parser = command_line.parser(__doc__)
    parser.usage = "into_readme.py NAME -- COMMAND ..."
    parser.add_argument("name", help="of the block")
    parser.add_argument("command", nargs="+", help="what prints its lines")
    given = parser.parse_args(arguments)
    name, command = given.name, given.command
    block = re.compile(rf"<!-- {re.escape(name)}\b.*?-->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    text = README.read_text()
    if not block.search(text):
        print(f"README.md has no block <!-- {name} --> ... <!-- /{name} -->", file=sys.stderr)
        return 2
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    made = f"<!-- {name}: made by {shlex.join(command)} -->\n{done.stdout.strip()}\n<!-- /{name} -->"
    README.write_text(block.sub(lambda _: made, text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
