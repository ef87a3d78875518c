"""Four standalone servers and a store, the same for every test of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rings import RingServers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RingServers]:
    """n1 to n4 and the store; each test begins with `reset`."""
    servers = RingServers.of(tmp_path_factory.mktemp("ring") / "state", "n1", "n2", "n3", "n4")
    try:
        servers.start()
        yield servers
    finally:
        servers.destroy()
