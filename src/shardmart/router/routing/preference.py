"""Which member of a set a read may go to: the client's `$readPreference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..protocol.errors import Code, RouterError

MODES = ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")
LEAST_STALENESS_SECONDS = 90


@dataclass(frozen=True)
class ReadPreference:
    """Mode, tag sets, and how many seconds a secondary may be behind (0: as many as it likes)."""

    mode: str = "primary"
    tags: list[dict[str, str]] = field(default_factory=list)
    max_staleness: float = 0

    @classmethod
    def parse(cls, document: dict[str, Any]) -> ReadPreference:
        """What a client sent; RouterError 9, 14 or 160 as mongos gives them."""
        mode, tags = document.get("mode", "primary"), document.get("tags", [])
        staleness = document.get("maxStalenessSeconds", 0)
        if mode not in MODES:
            raise RouterError(Code.FailedToParse, f"unknown read preference mode {mode!r}")
        if not isinstance(tags, list) or not all(isinstance(tag_set, dict) for tag_set in tags):
            raise RouterError(Code.TypeMismatch, "$readPreference.tags must be an array of documents")
        if isinstance(staleness, bool) or not isinstance(staleness, int | float):
            raise RouterError(Code.TypeMismatch, "$readPreference.maxStalenessSeconds must be a number")
        staleness = max(staleness, 0)  # -1: no limit
        if staleness and mode == "primary":
            raise RouterError(Code.FailedToParse, "mode: primary is incompatible with maxStalenessSeconds")
        if 0 < staleness < LEAST_STALENESS_SECONDS:
            message = f"Parsing read preference: maxStalenessSeconds must be at least {LEAST_STALENESS_SECONDS}"
            raise RouterError(Code.MaxStalenessOutOfRange, message)
        return cls(mode, tags, staleness)

    @property
    def document(self) -> dict[str, Any]:
        """What a member is told: {"$readPreference": ...}; nothing for the primary."""
        tags = {"tags": self.tags} if self.tags else {}
        return {"$readPreference": {"mode": self.mode, **tags}} if self.mode != "primary" else {}


PRIMARY, PRIMARY_PREFERRED = ReadPreference(), ReadPreference("primaryPreferred")
