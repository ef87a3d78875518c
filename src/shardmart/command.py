"""How a command of ours ends: with its exit code, or with one line where the machine under it fails."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn


def run(command: str, module: str, arguments: list[str]) -> NoReturn:
    """Exit as `main` of `module` does; where the machine under it fails, with one line of `command` and exit code 1."""
    main = importlib.import_module(module).main
    try:
        code = main(arguments)
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
