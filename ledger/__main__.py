"""`python -m ledger` is `shardmart ledger`: the controls of `chaos` start it without looking for a script."""

from __future__ import annotations

import sys

from .cli import main

raise SystemExit(main(sys.argv[1:]))
