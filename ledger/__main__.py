"""`python -m ledger` is `shardmart ledger`: the controls of `chaos` start it without looking for a script."""

from __future__ import annotations

import sys

from shardmart.cli import run

run("ledger", sys.argv[1:])
