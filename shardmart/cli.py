"""The `shardmart` command: one subcommand per package, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("shardmart.status", "Show sets, members, lag, chunks and documents."),
    "load": ("loader.cli", "Seed the database with users, products and orders."),
    "ledger": ("ledger.cli", "Run a workload that remembers every acknowledged write, and check it."),
    "chaos": ("chaos.cli", "Random faults, and reports of experiments."),
    "router": ("router.cli", "Run the development router (for machines without mongos)."),
}


def usage() -> str:
    """The text of `shardmart --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["Usage: shardmart COMMAND [OPTIONS]", "", "Commands:", *lines, "", "`shardmart COMMAND --help` says more."]
    )


def main() -> None:
    """Call `main(arguments)` of the package that serves the first word; exit 2 when no package does."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] not in COMMANDS:
        print(f"shardmart: no command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    run(arguments[0], arguments[1:])


def run(command: str, arguments: list[str]) -> NoReturn:
    """Exit as `command` does; where the machine under it fails, with one line and exit code 1."""
    module = importlib.import_module(COMMANDS[command][0])
    try:
        code = module.main(arguments)
        sys.stdout.flush()
    except OSError as error:  # a full disk, a folder that is not ours, a reader that went away
        with suppress(OSError):
            sys.stdout.flush()
        # What could not be written is dropped, or the interpreter's last flush fails once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
            print(f"shardmart {command}: {what}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(code)
