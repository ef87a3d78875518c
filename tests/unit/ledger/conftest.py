"""A maker of synthetic runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_run import SyntheticRun


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[[str], SyntheticRun]:
    """Makes the folder of a run of the workload named."""
    return lambda workload: SyntheticRun(tmp_path / workload, workload)
