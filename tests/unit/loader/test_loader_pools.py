"""The frozen pools are Faker's, and loading does not import Faker."""

from __future__ import annotations

import json
import subprocess
import sys

import faker
import pytest

from shardmart.declare import data_model
from shardmart.loader.generation import freeze, pools


def test_frozen_pools_are_what_faker_gives() -> None:
    frozen = json.loads(pools.FILE.read_text(encoding="utf-8"))
    if frozen["faker"] != faker.VERSION:
        pytest.skip(f"frozen with Faker {frozen['faker']}, here is {faker.VERSION}")
    assert freeze.pools() == frozen


def test_every_region_of_the_data_model_has_locales() -> None:
    assert set(pools.load().locales) == set(data_model.load().regions)


def test_generating_does_not_import_faker() -> None:
    code = (
        "import sys; from shardmart.loader.cli import main; "
        "main(['--dry-run', '--json']); sys.exit('faker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
