"""`python -m shardmart.ledger` is `shardmart ledger`: the controls of `chaos` start it without looking for a script."""

from __future__ import annotations

import sys

from shardmart.command import run

run("ledger", "shardmart.ledger.cli", sys.argv[1:])
