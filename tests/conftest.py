"""Mark tests by their folder: integration tests start real servers, end-to-end tests need kind."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in ("integration", "e2e"):
            if folder in Path(item.path).parts:
                item.add_marker(folder)
