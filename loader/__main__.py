"""`python -m loader` is `shardmart load`: what the loader's image runs."""

from __future__ import annotations

import sys

from shardmart.cli import run

run("load", sys.argv[1:])
