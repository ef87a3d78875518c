"""One kind cluster for the whole session, made by `site.yml` from nothing.

The modules run in the order of their names: each leaves the cluster whole, and test_destroy.py ends it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.gitops import STEPS
from tests.support.kind_site import KindSite, Made

NAME = "shardmart-e2e"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(STEPS, None):
        terminalreporter.section("what each step took")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    site = KindSite(tmp_path_factory.mktemp("kind"), NAME)
    site.destroy()  # of a run that was killed
    begun = time.monotonic()
    site.enforce_policies()
    played = site.play("site.yml")
    seconds = time.monotonic() - begun
    print(f"\nsite.yml from no cluster: {seconds:.0f} s")
    if played.code:
        events = site.kubectl("get", "pods,events", accept=(0, 1))
        site.destroy()
        pytest.fail(f"{played.output}\n{events}")
    try:
        yield Made(site, played, seconds, site.identities())
    finally:
        site.destroy()


@pytest.fixture
def site(made: Made) -> KindSite:
    return made.site
