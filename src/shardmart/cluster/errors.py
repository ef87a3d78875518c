"""The exceptions of the `cluster` package: one line that says what was expected, what was found, what to do."""

from __future__ import annotations

from ..errors import UNREACHABLE, ShardmartError


class ClusterError(ShardmartError):
    """Something about the cluster is not as it should be, and converging cannot or must not change that."""

    exit_code = UNREACHABLE


class DeadlineError(ClusterError):
    """A wait came to its deadline; the message says what it was waiting for."""


class SecretMissingError(ClusterError):
    """A secret file does not exist (yet): in check mode the run would make it."""
