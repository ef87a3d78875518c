"""A service on memory as a process: `python -m tests.support.shop_instance SERVICE PORT DRAIN FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from shardmart.shop.web.serving import serve
from tests.support.shop_apps import app_in_memory
from tests.support.shop_in_memory import MemoryShop


def main() -> None:
    """Serve until SIGTERM."""
    service, port, drain_seconds, folder = sys.argv[1:]
    serve(app_in_memory(service, MemoryShop(Path(folder)), Path(folder)), "127.0.0.1", int(port), float(drain_seconds))


if __name__ == "__main__":
    main()
