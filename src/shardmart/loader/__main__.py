"""`python -m shardmart.loader` is `shardmart load`: what the loader's image runs."""

from __future__ import annotations

import sys

from shardmart.command import run

run("load", "shardmart.loader.cli", sys.argv[1:])
