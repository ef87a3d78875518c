"""What the domain refuses.  Every message may be shown to the caller: it holds nothing of anybody else."""

from __future__ import annotations


class DomainError(Exception):
    """The domain says no."""


class InvalidError(DomainError):
    """What was asked for makes no sense, whatever the state."""


class NotFoundError(DomainError):
    """There is no such thing, or it is not the caller's to see."""


class StateError(DomainError):
    """It could be done, but not in the state that this is in."""


class VersionError(DomainError):
    """The caller has seen another version than there is now."""
