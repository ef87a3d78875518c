"""Who is at the other end of a client's connection."""

from __future__ import annotations

from typing import Protocol

from bson import Binary


class Peer(Protocol):
    """A client's connection as the commands see it: `digest` names its user to members, `busy` says that it waits."""

    user: tuple[str, str] | None
    digest: Binary
    peer: str
    loopback: bool

    @property
    def busy(self) -> bool:
        """Whether a command is being served."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...
