"""`python -m shardmart.shop` is `shardmart shop`: whoever starts an instance need not look for a script."""

from __future__ import annotations

import sys

from shardmart.command import run

run("shop", "shardmart.shop.cli", sys.argv[1:])
