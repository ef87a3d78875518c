"""What holds for every test: markers by folder, what is left for `make test-full`, and the report for `.ci/run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.report import Report

if TYPE_CHECKING:
    from tests.support.scheduling import ByCluster

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests marked `full`, too: they take minutes")


def pytest_configure(config: pytest.Config) -> None:
    file = os.environ.get("SHARDMART_REPORT")
    if file and not hasattr(config, "workerinput"):  # pytest-xdist: its workers tell the process that started them
        config.pluginmanager.register(Report(Path(file)))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCluster | None:
    """With --dist loadscope a worker gets whole modules, and together those that share a cluster."""
    from tests.support.scheduling import ByCluster  # here: only the process that starts the workers needs it

    return ByCluster(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder: integration tests start real servers, end-to-end tests need kind."""
    for item in items:
        for folder in ("integration", "e2e"):
            if folder in Path(item.path).parts:
                item.add_marker(folder)
    # What takes longest begins first (--no-loadscope-reorder keeps the order): one worker would be left with it.
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
