"""Modules that share a cluster run on one worker, every other module by itself."""

from __future__ import annotations

from tests.support.clusters import ROOT
from tests.support.scheduling import SHARED, scope_of


def test_tests_of_a_module_have_one_scope_and_two_modules_have_two() -> None:
    tls = "tests/integration/tls/test_tls.py"
    assert scope_of(f"{tls}::test_one[a::b]") == scope_of(f"{tls}::TestClass::test_two") == tls
    assert scope_of("tests/integration/modules/test_replica_set.py::test_one") != scope_of(f"{tls}::test_one")


def test_modules_that_share_a_cluster_have_one_scope() -> None:
    router = [scope_of(f"tests/integration/router/test_router_{name}.py::test") for name in ("bank", "survival")]
    assert router == ["router", "router"]
    modules = [scope_of(f"tests/integration/modules/test_{name}.py::test") for name in ("access", "sharding")]
    assert modules == ["small cluster", "small cluster"]


def test_what_is_shared_is_there() -> None:
    assert [beginning for beginning in SHARED if not (ROOT / beginning).exists()] == []
