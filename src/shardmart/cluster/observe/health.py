"""What is known of one process of the shop: whether it serves, and why not."""

from __future__ import annotations

from dataclasses import dataclass

READY, NOT_READY, DOWN = "READY", "NOT READY", "DOWN"


@dataclass(frozen=True)
class Health:
    """READY, NOT READY with what is missing, or DOWN with why there was no answer."""

    state: str
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.state == READY
