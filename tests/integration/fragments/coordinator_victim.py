"""A coordinator that does one operation of the shop, and is killed by SIGKILL right after a step."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from shardmart.fragments import configuration
from shardmart.fragments.relational.shop import RelationalShop


def main() -> None:
    """Arguments: configuration, step, operation, its arguments as JSON."""
    file, step, operation, arguments = sys.argv[1:]

    def observe(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    getattr(RelationalShop(configuration.find(Path(file)), observe), operation)(*json.loads(arguments))


if __name__ == "__main__":
    main()
