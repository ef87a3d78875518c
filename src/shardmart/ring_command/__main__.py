"""`python -m shardmart.ring_command` is `shardmart ring`: experiments start it without looking for a script."""

from __future__ import annotations

import sys

from shardmart.command import run

run("ring", "shardmart.ring_command.cli", sys.argv[1:])
