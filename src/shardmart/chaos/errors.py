"""The exception of the `chaos` package."""

from __future__ import annotations


class ChaosError(Exception):
    """A fault or an experiment cannot be as asked; one or two lines that say why and what to do."""
