"""The fragments on the session's kind cluster, its policies enforced: three region nodes as pods, beside the same shop
on MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.kind_site import POLICIES, KindSite, Made
from tests.support.strangers import reaches

needs_enforcement = pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")
REGIONS = ("APJ", "EMEA", "LATAM")


def release_of(site: KindSite) -> str:
    return f"{site.name}-fragments"


def ours(site: KindSite) -> str:
    return f"--selector=app.kubernetes.io/instance={release_of(site)}"


@pytest.fixture(scope="module")
def fragments(made: Made) -> Iterator[KindSite]:
    """The session's cluster with the fragments beside it; they are gone again afterwards, with their data."""
    site = made.site
    checked = site.play("playbooks/fragments.yml", "--check")
    assert checked.code == 0, f"--check before anything is there\n{checked.output}"
    assert not site.get("deployment,statefulset,service,pvc,secret", ours(site))
    site.must_play("playbooks/fragments.yml")
    yield site
    removed = site.play("playbooks/fragments-destroy.yml", "-e", "destroy_data=true")
    assert removed.code == 0, removed.output
    assert not site.get("deployment,statefulset,service,pvc,secret", ours(site))


def command(site: KindSite, *words: str, accept: tuple[int, ...] = (0,)) -> Any:
    """What `shardmart fragments … --json` says from this machine, which has no way to the nodes."""
    return json.loads(site.run("shardmart", "fragments", *words, accept=accept))


@pytest.mark.full  # another play: a minute
@pytest.mark.timeout(1200)
def test_second_run_changes_nothing(fragments: KindSite) -> None:
    again = fragments.play("playbooks/fragments.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output


@pytest.mark.timeout(600)
def test_both_stores_hold_the_shop_and_status_finds_the_peers_well(fragments: KindSite) -> None:
    facts = command(fragments, "status", "--json", accept=(0, 1))
    assert facts["problems"] == []
    assert {node["name"]: node["up"] for node in facts["nodes"]} == dict.fromkeys(REGIONS, True)
    assert facts["rows_different"] == 0
    assert sum(node["customers"] for node in facts["nodes"]) == 3 * 10
    both = [
        command(fragments, "crud", "products-between", "10.00", "501.00", f"--store={store}")
        for store in ("postgres", "mongodb")
    ]
    assert both[0] == both[1]
    assert both[0]


@pytest.mark.timeout(600)
def test_helm_test_looks_up_what_has_to_hold(fragments: KindSite) -> None:
    release = release_of(fragments)
    said = fragments.run("helm", "test", release, "--namespace", fragments.name, "--logs", "--timeout=5m")
    assert "the join of both vertical fragments is Shipments, row by row" in said
    assert "WRONG" not in said


@needs_enforcement
@pytest.mark.timeout(600)
def test_nodes_answer_nobody_but_their_peers_and_commands(fragments: KindSite) -> None:
    nodes = [f"{release_of(fragments)}-{region.lower()}.{fragments.name}.svc.cluster.local:5432" for region in REGIONS]
    assert reaches(fragments, fragments.name, *nodes) == [False, False, False]


@pytest.mark.timeout(900)
def test_a_node_that_was_killed_is_told_what_it_missed(fragments: KindSite) -> None:
    before = command(fragments, "crud", "names", "", "--region=APJ")
    customer = fragments.kubectl(
        "exec", f"deploy/{release_of(fragments)}-repair", "--", "python3", "-c", SOMEBODY, "APJ"
    ).strip()
    pod = f"{release_of(fragments)}-emea-0"
    lost = fragments.kubectl("get", "pod", pod, "--output=jsonpath={.metadata.uid}")
    fragments.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    command(fragments, "crud", "rename-customer", "APJ", customer, "Renamed Meanwhile")

    def told() -> bool:
        now = fragments.kubectl("get", "pod", pod, "--output=jsonpath={.metadata.uid}")
        facts = command(fragments, "status", "--json", accept=(0, 1))
        return now != lost and facts["problems"] == [] and facts["rows_different"] == 0

    fragments.wait("the new pod to be told, and every row to be the same", told, seconds=400)
    assert len(command(fragments, "crud", "names", "", "--region=APJ")) == len(before)
    assert ["APJ", "Renamed Meanwhile"] in command(fragments, "crud", "names", "Renamed")


@pytest.mark.timeout(900)
def test_the_chart_alone_makes_what_is_missing_in_jobs_and_no_password_anew(fragments: KindSite) -> None:
    secret = f"{release_of(fragments)}-auth"
    before = fragments.kubectl("get", "secret", secret, "--output=jsonpath={.data}")
    words = ["upgrade", release_of(fragments), "helm/fragments", "--namespace", fragments.name, "--reuse-values"]
    alone = ["--set=bootstrap.enabled=true,seed.users=12", "--set=auth.existingSecret=", "--timeout=10m"]
    fragments.run("helm", *words, *alone)
    assert fragments.kubectl("get", "secret", secret, "--output=jsonpath={.data}") == before
    facts = command(fragments, "status", "--json", accept=(0, 1))
    assert sum(node["customers"] for node in facts["nodes"]) == 3 * 12


SOMEBODY = """
import sys
from shardmart.fragments import configuration
from shardmart.fragments.connection import application, scalar
stores = configuration.find()
with application(stores, stores.node(sys.argv[1])) as connection:
    print(scalar(connection, "SELECT min(customer_id) FROM Customer"))
"""
