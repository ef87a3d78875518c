"""Which tests one worker of pytest-xdist runs: those of a module, or of modules that share a cluster.

A fixture of the session is made once on each worker that needs it, so the modules that use the same one go together.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

SHARED = {
    "tests/integration/loader/": "loader",
    "tests/integration/router/": "router",
    "tests/integration/modules/test_access.py": "small cluster",
    "tests/integration/modules/test_embedded_platform.py": "small cluster",
    "tests/integration/modules/test_sharding.py": "small cluster",
    "tests/integration/shop/store/sharded/": "sharding proxy",
    "tests/integration/shop/store/test_store_contract.py": "sharding proxy",
}
"""Beginning of a module's path → the name of what it shares."""


def scope_of(nodeid: str) -> str:
    """The scope of a test: tests of one scope run on one worker."""
    module = nodeid.partition("::")[0]
    return next((name for beginning, name in SHARED.items() if module.startswith(beginning)), module)


class ByCluster(LoadScopeScheduling):
    """`--dist loadscope` whose scopes are ours."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
