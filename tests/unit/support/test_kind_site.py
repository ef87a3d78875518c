"""What the end-to-end tests take for a workload that is up to date and ready."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kind_site import ready

AFTER: dict[str, Any] = {"observedGeneration": 3, "replicas": 1, "readyReplicas": 1}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (AFTER | {"updatedReplicas": 1}, True),
        (AFTER, False),  # its only pod is of the revision before: a number that is 0 is left out
        (AFTER | {"updatedReplicas": 1, "observedGeneration": 2}, False),
        ({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1}, False),
    ],
)
def test_a_workload_is_ready_once_every_pod_is_of_its_last_revision(status: dict[str, Any], expected: bool) -> None:
    assert ready({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": status}) is expected
