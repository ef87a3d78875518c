"""A coordinator that moves a product to another band, and is killed by SIGKILL right after a step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from shardmart.fragments import configuration
from shardmart.fragments.relational.shop import RelationalShop


def main() -> None:
    """Arguments: configuration, product, new price, step."""
    file, product, price, step = sys.argv[1:]

    def observe(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    RelationalShop(configuration.find(Path(file)), observe).change_price(product, price)


if __name__ == "__main__":
    main()
