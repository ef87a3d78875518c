"""How a command of ours ends: the one place that turns what went wrong into a line on standard error and an exit code.

No command module catches a usage error, an interruption or one of our own exceptions to end by; none prints a
traceback for a user's mistake.  What is nobody's expected failure (a defect) keeps its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import FAILED, INTERRUPTED, UNREACHABLE, BadUseError, ShardmartError, exit_codes

if TYPE_CHECKING:
    import typer


def run(command: str, module: str, arguments: list[str]) -> NoReturn:
    """Exit as `main(arguments)` of `module` does; the module is imported now and not before."""
    raise SystemExit(ending(command, lambda: importlib.import_module(module).main(arguments)))


def run_app(app: typer.Typer, command: str, arguments: list[str], *, os_error: int = FAILED) -> int:
    """Run a command line made with typer; returns the exit code.

    `os_error` is the code for a file or disk that fails, where 1 is a verdict of the command.
    """

    forget_other_servers()
    say_exit_codes(app, command)

    def body() -> Any:
        import typer  # here: the router starts without it

        try:
            return app(arguments, prog_name=f"shardmart {command}", standalone_mode=False)
        except typer.Abort:
            raise KeyboardInterrupt from None
        except Exception as error:
            # typer carries a click of its own: its usage errors have no public name, but they can format a message.
            if not hasattr(error, "format_message"):
                raise
            message = error.format_message()
            # Without arguments the help was printed, and there is nothing to add.
            raise BadUseError(f"{message} (see --help)" if message else "") from None

    return ending(command, body, os_error=os_error)


def say_exit_codes(app: typer.Typer, command: str) -> None:
    """Have `--help` of a command line and of every command in it end with its exit codes (`errors.EXIT_CODES`)."""
    app.info.epilog = exit_codes(command) or None
    for one in app.registered_commands:
        name = one.name or (one.callback.__name__.replace("_", "-") if one.callback else "")
        one.epilog = exit_codes(f"{command} {name}") or exit_codes(command) or None
    for group in app.registered_groups:
        if group.typer_instance:
            say_exit_codes(group.typer_instance, command)


def forget_other_servers() -> None:
    """Take libpq's variables out of the environment of this process and of those that it starts.

    They fill in what a connection does not say: PGHOSTADDR leads one to another server although its host was given,
    and the password with it (PostgreSQL 18 manual, 32.15 "Environment Variables").
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def ending(command: str, body: Callable[[], int | None], *, os_error: int = FAILED) -> int:
    """The exit code `body` ends with, its output flushed; where it fails, after one line that `command` says.

    Ctrl-C is silent and 130: whoever pressed it knows.  So is a reader of our output that went away, with `os_error`.
    """
    try:
        code = body() or 0
        sys.stdout.flush()
    except ShardmartError as error:
        _say(command, str(error))
        return error.exit_code
    except ModuleNotFoundError as error:  # a defect, unless it is of a package that only some installations have
        if not error.name or error.name.split(".")[0] == "shardmart":
            raise
        _say(command, f"{error.name.split('.')[0]} is not installed here: `make install` installs everything")
        return UNREACHABLE
    except OSError as error:  # a full disk, a folder that is not ours, a reader that went away
        _drop_output()
        if not isinstance(error, BrokenPipeError):
            _say(command, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return os_error
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # argparse; typer, where the reader of its output went away
        return end.code if isinstance(end.code, int) else 0 if end.code is None else FAILED
    return code


def _say(command: str, message: str) -> None:
    if message:
        print(f"shardmart {command}: {message}", file=sys.stderr)


def _drop_output() -> None:
    """Drop what could not be written, or the interpreter's last flush fails once more."""
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
