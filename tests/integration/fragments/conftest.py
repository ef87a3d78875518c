"""Three region nodes with schema and peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.region_nodes import RegionNodes, region_nodes


@pytest.fixture(scope="module")
def nodes() -> Iterator[RegionNodes]:
    """Shared by the tests of a module: each uses keys of its own."""
    with region_nodes() as running:
        yield running
