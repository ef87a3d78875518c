"""Importing this module fills the table of commands."""

from . import (  # noqa: F401
    aggregation,
    catalogue_commands,
    diagnostics,
    modify,
    reads,
    session_commands,
    sharding_commands,
    transactions,
    user_commands,
    writes,
)
