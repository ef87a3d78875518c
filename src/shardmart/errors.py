"""The one exception tree: what may go wrong for a user is a ShardmartError, one line and an exit code.

A message says what was expected, what was found and what to do next.  The exit codes are the same for every command:
1 it failed, 2 wrong arguments or a wrong file, 3 the cluster is not there or does not answer, 4 it refused, and
130 interrupted; a command that gives a verdict says with 1 that it is not good.  The table of all commands stands in
docs/operating.md; `shardmart.command` is where an exception becomes its line and its code.
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
