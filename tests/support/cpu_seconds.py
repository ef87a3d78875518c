"""A pytest plugin: what each fixture and each test costs in seconds of CPU, servers and other processes included.

    SHARDMART_CPU=/tmp/cpu.jsonl python -m pytest -p tests.support.cpu_seconds tests/integration/tls

Wall time says how busy the machine is; this says what a test takes from it. Each pytest process moves into a control
group of its own (Linux, root), which every process that it starts is in, whoever outlives whom. A line of the file is a
fixture or a phase of a test; the fixtures within it are not counted again. `python -m tests.support.cpu_seconds FILE…`
adds up the modules and shows the dearest lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VERSION_1, VERSION_2 = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")


class Meter:
    """A control group of this process, and the file that is written to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._group = (VERSION_1 if VERSION_1.exists() else VERSION_2) / f"shardmart-tests-{os.getpid()}"
        self._group.mkdir(exist_ok=True)
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        self._within: list[float] = []

    def used(self) -> float:
        """Seconds of CPU of everything in the group."""
        if (usage := self._group / "cpuacct.usage").exists():
            return int(usage.read_text()) / 1e9
        words = (self._group / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def measure(self, kind: str, name: str) -> Iterator[None]:
        """Write what happens at the `yield` costs, without what is measured within it."""
        before, begun = self.used(), time.monotonic()
        self._within.append(0.0)
        try:
            yield
        finally:
            whole, within = self.used() - before, self._within.pop()
            if self._within:
                self._within[-1] += whole
            line = {"kind": kind, "name": name, "cpu": whole - within, "seconds": time.monotonic() - begun}
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        """Finding the tests."""
        yield from self.measure("collection", "")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Iterator[None]:
        """One fixture, for the module that asked first."""
        yield from self.measure("fixture", f"{request.node.nodeid.partition('::')[0]}::{fixturedef.argname}")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Before a test, without its fixtures."""
        yield from self.measure("setup", item.nodeid)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """A test."""
        yield from self.measure("call", item.nodeid)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """After a test, and the end of fixtures that nobody wants any more."""
        yield from self.measure("teardown", item.nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Measure from here on, into the file that SHARDMART_CPU names."""
    config.pluginmanager.register(Meter(Path(os.environ["SHARDMART_CPU"])))


def main(files: list[str]) -> None:
    """Print seconds of CPU of every module, then of the thirty dearest lines."""
    lines = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    modules: Counter[str] = Counter()
    for line in lines:
        modules[line["name"].partition("::")[0] or line["kind"]] += line["cpu"]
    print("\n".join(f"{cpu:8.1f}  {name}" for name, cpu in modules.most_common()))
    print(f"{modules.total():8.1f}  all\n")
    for line in sorted(lines, key=lambda line: -line["cpu"])[:30]:
        print(f"{line['cpu']:8.1f} of {line['seconds']:.1f} s  {line['kind']} {line['name']}")


if __name__ == "__main__":
    main(sys.argv[1:])
