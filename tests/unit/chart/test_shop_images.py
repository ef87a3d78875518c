"""The images that a shop's engines need besides are built where its topology has these engines, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from shardmart.declare import chart, release, topology
from shardmart.declare.release import Release
from tests.support.clusters import ROOT

VARIABLES = ROOT / "roles" / "images" / "vars" / "main.yml"
PARTS = ("kafka", "cache_tls", "postgres", "postgres_tls")


def built(tls: str, **more: Any) -> set[str]:
    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text()) | {"tls": {"mode": tls}} | more
    place = Release("store", "shopping", "store")
    described = release.describe(chart.document(chart.chart_values(topology.parse(document, "test")), place))
    given = {f"images_built_for_{part}": [part] for part in PARTS} | {"cluster": described.as_document()}
    ours = {name: trust_as_template(text) for name, text in yaml.safe_load(VARIABLES.read_text()).items()}
    templar = Templar(loader=DataLoader(), variables=given | ours)
    return {part for part in PARTS if templar.template(trust_as_template(f"{{{{ __images_for_{part} }}}}"))}


@pytest.mark.parametrize(
    ("tls", "backends", "images"),
    [
        ("disabled", {}, set()),
        ("requireTLS", {}, {"cache_tls"}),
        ("requireTLS", {"tls": False}, set()),
        ("requireTLS", {"cache": "memory"}, set()),
        ("disabled", {"event_log": "kafka"}, {"kafka"}),
        ("requireTLS", {"event_log": "kafka"}, {"kafka", "cache_tls"}),
        ("disabled", {"store": "postgres"}, {"postgres"}),
        ("requireTLS", {"store": "postgres"}, {"postgres_tls", "cache_tls"}),
        ("requireTLS", {"catalogue": "postgres", "tls": False}, {"postgres"}),
        ("requireTLS", {"store": "postgres", "postgres_host": "db.example"}, {"cache_tls"}),
    ],
)
def test_a_shop_has_the_images_of_its_engines(tls: str, backends: dict[str, Any], images: set[str]) -> None:
    assert built(tls, services={}, backends=backends) == images


def test_without_a_shop_there_is_none_of_them() -> None:
    assert built("requireTLS") == set()
