"""The names in the certificate of the fragments' nodes are those by which peers and commands reach them."""

from __future__ import annotations

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.support.clusters import ROOT

TASKS = ROOT / "roles" / "fragments_chart" / "tasks" / "certificate.yml"


def test_each_region_has_the_name_of_its_service() -> None:
    (about,) = [task["vars"] for task in yaml.safe_load(TASKS.read_text()) if "certificates" in task]
    given = {
        "fragments_chart_release": "shop-fragments",
        "fragments_chart_namespace": "shop",
        "fragments_chart_topology_values": {"regions": ["APJ", "LATAM_SOUTH"], "clusterDomain": "cluster.local"},
    }
    variables = given | {name: trust_as_template(text) for name, text in about.items()}
    names = Templar(loader=DataLoader(), variables=variables).template(
        trust_as_template("{{ __fragments_chart_names }}")
    )
    assert names == [
        "shop-fragments-apj.shop.svc.cluster.local",
        "shop-fragments-latam-south.shop.svc.cluster.local",
    ]
