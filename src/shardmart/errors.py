"""The one exception tree: what may go wrong for a user is a ShardmartError, one line and an exit code.

A message says what was expected, what was found and what to do next.  The exit codes are the same for every command:
1 it failed, 2 wrong arguments or a wrong file, 3 the cluster is not there or does not answer, 4 it refused, and
130 interrupted; a command that gives a verdict says with 1 that it is not good.  EXIT_CODES has the words of every
command, for its `--help` and for docs/operating.md; `shardmart.command` is where an exception becomes its line and its
code.
"""

from __future__ import annotations

FAILED, BAD_USE, UNREACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130


class ShardmartError(Exception):
    """Something a user can understand and act on; `exit_code` is what the command ends with."""

    exit_code = FAILED


class BadUseError(ShardmartError):
    """The arguments, or a file that a person wrote, are wrong."""

    exit_code = BAD_USE


class UnreachableError(ShardmartError):
    """There is no cluster where one was looked for, or it does not answer."""

    exit_code = UNREACHABLE


class RefusedError(ShardmartError):
    """The cluster answered and said no."""

    exit_code = REFUSED


FAILED_TO_REACH = "the cluster or a file failed"
WRONG_ARGUMENTS = "wrong arguments"
INTERRUPTION = {INTERRUPTED: "interrupted"}

EXIT_CODES: dict[str, dict[int, str]] = {
    "status": {
        0: "healthy",
        FAILED: "something is not as it should be",
        BAD_USE: WRONG_ARGUMENTS,
        UNREACHABLE: "no cluster",
    }
    | INTERRUPTION,
    "render": {
        0: "printed, or nothing differs",
        FAILED: "with `--check`: something differs",
        BAD_USE: "wrong arguments, or a topology that cannot work",
        UNREACHABLE: "it could not be written",
    }
    | INTERRUPTION,
    "load": {
        0: "loaded and verified",
        FAILED: "a file or the disk failed",
        BAD_USE: "wrong arguments, or data of another seed",
        UNREACHABLE: "the cluster does not answer or is not set up",
        REFUSED: "verification failed, or the cluster refused",
    }
    | INTERRUPTION,
    "ledger run": {0: "ran to its end", BAD_USE: WRONG_ARGUMENTS, UNREACHABLE: FAILED_TO_REACH} | INTERRUPTION,
    "ledger check": {
        0: "clean",
        FAILED: "not clean",
        BAD_USE: WRONG_ARGUMENTS,
        UNREACHABLE: f"{FAILED_TO_REACH}: no verdict",
    }
    | INTERRUPTION,
    "ledger clean": {0: "done", BAD_USE: WRONG_ARGUMENTS, UNREACHABLE: "the cluster failed"} | INTERRUPTION,
    "chaos": {
        0: "passed, or done",
        FAILED: "an experiment failed (with `--expect-failure`: passed, or failed for another reason than the one it "
        "names)",
        BAD_USE: WRONG_ARGUMENTS,
        UNREACHABLE: FAILED_TO_REACH,
        REFUSED: "this cluster cannot do an experiment, or another one runs; nothing was started",
    }
    | INTERRUPTION,
    "ring": {
        0: "done; `status`: all is well; a demonstration: every claim holds",
        FAILED: "`status`, `tend`: a node is away or hints wait; `status`: nodes change; a claim is false",
        BAD_USE: "wrong arguments or settings",
        UNREACHABLE: "a node or the store does not answer",
        REFUSED: "the change cannot be right now",
    }
    | INTERRUPTION,
    "fragments": {
        0: "done, or well",
        FAILED: "something is not as it should be, or not yet finished",
        BAD_USE: "wrong arguments or configuration",
        UNREACHABLE: "a store does not answer",
        REFUSED: "a store refused; nothing was changed",
    }
    | INTERRUPTION,
    "shop": {
        0: "done",
        FAILED: "it failed",
        BAD_USE: "wrong arguments or file",
        UNREACHABLE: "a store or service does not answer",
        REFUSED: "a service refused",
    }
    | INTERRUPTION,
    "router": {0: "stopped by a signal", FAILED: "it could not listen", BAD_USE: "wrong arguments or files"},
}
"""What each command ends with; `ledger check` is a command of its own, `ledger` alone is not."""


def exit_codes(command: str) -> str:
    """The line of `--help`; empty for a command without words of its own."""
    meanings = EXIT_CODES.get(command)
    return f"Exit codes: {', '.join(f'{code} {words}' for code, words in meanings.items())}." if meanings else ""
