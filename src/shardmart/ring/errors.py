"""What can go wrong with a ring, for its callers: each is one line that says what to do (`shardmart.errors`).

The names with a leading "_" never leave the package: the client turns them into another attempt.
"""

from __future__ import annotations

from ..errors import BadUseError, RefusedError, ShardmartError, UnreachableError


class RingError(ShardmartError):
    """Something about a ring; the base of all below, so that a caller can catch one name."""


class SettingsError(RingError, BadUseError):
    """The settings name no ring that could be: the message names the key."""


class KeyTypeError(RingError, BadUseError):
    """A key of a type whose place would not be the same for everybody."""


class ValueTypeError(RingError, BadUseError):
    """BSON cannot hold the value; nothing was written anywhere."""


class ValueTooLargeError(RingError, BadUseError):
    """The value does not fit a document together with its envelope; nothing was written anywhere."""


class ConflictError(RingError, RefusedError):
    """A conditional put or delete found another version than the one it was told to expect; nothing was written."""


class UnavailableError(RingError, UnreachableError):
    """Too few of the nodes that may hold the key answer to be certain; nothing was written."""


class NotAcknowledgedError(RingError, UnreachableError):
    """A write is on fewer nodes than an acknowledgement needs.  It may come to be seen, now or later, or not."""


class StoreError(RingError, UnreachableError):
    """The membership store does not answer, or holds no such ring."""


class WrongNodeError(RingError, RefusedError):
    """A server is not the node that the settings say: it holds other data or none, or one server has two names."""


class ChangeRefusedError(RingError, RefusedError):
    """A membership change that cannot be right now; the message says why."""


class MoverAtWorkError(ChangeRefusedError):
    """Somebody changes the nodes already, or was killed while it did, less than a minute ago."""


class NodeAwayError(RingError, UnreachableError):
    """One node does not answer, or is not yet to be trusted.

    `sent` is False when the operation certainly did not reach it.
    """

    def __init__(self, node: str, reason: str, *, sent: bool = True) -> None:
        super().__init__(f"{node}: {reason}")
        self.node, self.reason, self.sent = node, reason, sent


class NodeRefusesError(RingError, RefusedError):
    """A node answers, and does not do what it was asked: a right that its user lacks, a full disk, a server's fault.

    A write that meets it may come to be seen or not.
    """

    def __init__(self, node: str, code: int | None, reason: str) -> None:
        super().__init__(f"{node} refuses: {reason} (code {code})")
        self.node, self.code = node, code


class StaleRingError(RingError):
    """A node refused an operation because the ring has changed since it was read.  The client reads it anew."""
