"""`python -m shardmart.fragments` is `shardmart fragments`: the timer of the repair is started without a script."""

from __future__ import annotations

import sys

from shardmart.command import run

run("fragments", "shardmart.fragments.cli", sys.argv[1:])
