"""Every experiment is valid, names only what exists, and is held to the house rules."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaoslib.experiment import ensure_experiment_is_valid
from pod_cluster import pod_targets, shop_pods

from shardmart.chaos import cli
from shardmart.chaos.errors import ImpossibleError
from shardmart.chaos.faults import drain
from shardmart.chaos.faults.kinds import PLATFORMS
from shardmart.chaos.faults.postgres import NO_STORE
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.targets.shop import NO_BROKERS, NOT_AS_PODS
from shardmart.chaos.toolkit import actions, probes, regions, rings, shop
from shardmart.chaos.toolkit.experiments import refuse_impossible

__all__ = ["pod_targets", "shop_pods"]  # the fixtures

FOLDER = Path(__file__).parents[4] / "chaos"
EXPERIMENTS = sorted(FOLDER.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


OF_THE_SHOP = [
    path for path in EXPERIMENTS if load(path)["controls"][0]["provider"]["arguments"].get("workloads") == "shop"
]


@pytest.fixture(params=EXPERIMENTS, ids=lambda path: path.stem)
def experiment(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_chaos_toolkit_accepts_it(experiment: dict[str, Any]) -> None:
    ensure_experiment_is_valid(experiment)


def test_it_has_the_control_heals_always_and_proves_its_fault(experiment: dict[str, Any]) -> None:
    assert [c["provider"]["module"] for c in experiment["controls"]] == ["shardmart.chaos.toolkit.controls"]
    assert experiment["runtime"]["rollbacks"]["strategy"] == "always"
    assert [r["provider"]["func"] for r in experiment["rollbacks"]] == ["heal"]
    assert any(step["name"].startswith("proof: ") for step in experiment["method"])


OF_REGIONS = {"kill_region": "kill", "pause_region": "pause", "cut_region": "partition"}
"""What faults on region nodes are called, by their actions; others have the name of their action."""


def test_a_proof_is_about_a_fault_that_the_experiment_begins(experiment: dict[str, Any]) -> None:
    """Faults are named after the actions that begin them; a proof of another one fails however right the fault is."""
    begun: set[str] = set()
    for step in experiment["method"]:
        provider = step["provider"]
        if step["type"] == "action":
            begun.add(OF_REGIONS.get(provider["func"], provider["func"].replace("_", "-")))
            continue
        takes = inspect.signature(getattr(importlib.import_module(provider["module"]), provider["func"])).parameters
        if "fault" in takes:
            assert provider.get("arguments", {}).get("fault", takes["fault"].default) in begun, step["name"]


def test_its_activities_exist_and_take_what_they_are_given(experiment: dict[str, Any]) -> None:
    steps = [*experiment["method"], *experiment["rollbacks"], *experiment["steady-state-hypothesis"]["probes"]]
    for step in steps:
        modules = {module.__name__: module for module in (actions, probes, regions, rings, shop)}
        module = modules[step["provider"]["module"]]
        function = getattr(module, step["provider"]["func"])
        inspect.signature(function).bind(**step["provider"].get("arguments", {}))


def test_its_source_says_how_to_repeat_it() -> None:
    for path in EXPERIMENTS:
        relative = path.relative_to(FOLDER.parent)
        assert load(path)["configuration"]["source"] == f"chaos run {relative}"


def test_every_public_name_has_words_for_people() -> None:
    for module in (actions, probes, regions, rings, shop):
        for name in module.__all__:
            assert getattr(module, name).__doc__, name


def test_values_that_differ_by_platform_are_there_for_each(experiment: dict[str, Any]) -> None:
    for name, value in experiment["configuration"].items():
        assert not isinstance(value, dict) or set(value) == set(PLATFORMS), name


def test_argument_is_the_value_of_the_platform(
    targets: Targets, pod_targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[float, Any]] = []

    def start(of: Targets, kind: str, name: str, servers: Any, duration_s: float, how: str) -> Record:
        begun.append((duration_s, how))
        return Record("x", kind, name, [], duration_s)

    monkeypatch.setattr(actions.register, "start", start)
    for each in (targets, pod_targets):
        monkeypatch.setattr(actions, "Targets", lambda state, each=each: each)
        duration, how = {"embedded": 20, "kubernetes": 1}, {"embedded": "sigkill", "kubernetes": "delete"}
        actions.kill("shard1-1", duration_s=duration, how=how)
    actions.kill("shard1-1", duration_s=6)
    assert begun == [(20, "sigkill"), (1, "delete"), (6, "sigkill")]


def test_platform_says_what_it_cannot_do(
    targets: Targets, pod_targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_nodes = SimpleNamespace(list_node=lambda: SimpleNamespace(items=["n1", "n2", "n3"]))
    monkeypatch.setattr(drain, "KubernetesApi", lambda of: SimpleNamespace(core=three_nodes))
    refused = {}
    for path in [path for path in EXPERIMENTS if path not in OF_THE_SHOP]:
        for each in (targets, pod_targets):
            try:
                refuse_impossible(each, load(path))
            except ImpossibleError as error:
                refused[each.platform.name, path.stem] = str(error)
    no_ring = {
        (platform, path.stem): f"{load(path)['title']}: there is no ring here: run `make ring`"
        for path in EXPERIMENTS
        for platform in PLATFORMS
        if path.stem.startswith("ring-")
    }
    assert refused == no_ring | {
        ("embedded", "drain-node"): "Drain a node: processes of one machine have no node to drain",
        ("kubernetes", "slow-disk"): "Slow disk under a primary: there is no slow disk on pods: the control groups of "
        "their nodes are the kubelet's",
        **{
            (platform, file): f"{load(FOLDER / f'{file}.json')['title']}: {lacking}"
            for file, kind in (
                ("fragments-kill-node", "region-kill"),
                ("fragments-cut-node", "region-network"),
                ("fragments-pause-node", "region-pause"),
                ("fragments-negative-control", "region-rule"),
            )
            for platform, lacking in (
                ("embedded", "there are no region servers here: run `make fragments`"),
                ("kubernetes", f"there is no fault of the kind {kind} on kubernetes"),
            )
        },
    }


def test_without_a_shop_each_of_its_experiments_is_refused_in_a_line(targets: Targets, pod_targets: Targets) -> None:
    assert {path.stem for path in OF_THE_SHOP} == {
        "kill-all-brokers", "kill-all-instances", "kill-broker", "kill-cache", "kill-cache-node", "kill-service",
        "kill-store-leader", "kill-store-primary", "latency-store", "partition-service", "partition-store",
        "partition-store-leader", "pause-store-leader", "provider-down", "provider-slow",
        "shop-kill-primary", "shop-rolling-update",
    }  # fmt: skip
    for path in OF_THE_SHOP:
        with pytest.raises(ImpossibleError, match="this cluster has no shop: `make shop` starts one"):
            refuse_impossible(targets, load(path))
        with pytest.raises(ImpossibleError, match=r"this cluster has no shop: site.yml with \S+/shop.yml starts one"):
            refuse_impossible(pod_targets, load(path))


def test_a_shop_of_pods_is_refused_only_what_it_has_not(shop_pods: Targets) -> None:
    refused = {}
    for path in OF_THE_SHOP:
        try:
            refuse_impossible(shop_pods, load(path))
        except ImpossibleError as error:
            refused[path.stem] = str(error).partition(": ")[2]
    of_the_store = [
        f"{what}-store{which}"
        for what, which in (
            ("kill", "-primary"), ("kill", "-leader"), ("pause", "-leader"),
            ("partition", ""), ("partition", "-leader"),
        )
    ]  # fmt: skip
    of_others = dict.fromkeys(["kill-broker", "kill-all-brokers"], NO_BROKERS) | {"kill-cache-node": NOT_AS_PODS}
    assert refused == of_others | dict.fromkeys(of_the_store, NO_STORE)


def test_one_node_cannot_be_drained(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    one_node = SimpleNamespace(list_node=lambda: SimpleNamespace(items=["n1"]))
    monkeypatch.setattr(drain, "KubernetesApi", lambda of: SimpleNamespace(core=one_node))
    with pytest.raises(ImpossibleError, match="drain-node needs a second node"):
        refuse_impossible(pod_targets, load(FOLDER / "drain-node.json"))


def test_value_that_is_missing_for_this_platform_is_named(targets: Targets) -> None:
    with pytest.raises(ImpossibleError, match="x: its down_s says nothing for the platform embedded"):
        refuse_impossible(targets, {"title": "x", "method": [], "configuration": {"down_s": {"kubernetes": 1}}})


def test_impossible_experiment_is_one_line_and_exit_code_4(
    targets: Targets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDMART_STATE", str(targets.state.folder))
    files = [str(FOLDER / "latency.json"), str(FOLDER / "drain-node.json")]
    assert cli.main(["run", *files]) == 4
    assert capsys.readouterr().err == "shardmart chaos: Drain a node: processes of one machine have no node to drain\n"
    assert not (targets.state.folder / "chaos").exists(), "something was started"


def test_impossible_experiments_may_be_left_out(
    targets: Targets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDMART_STATE", str(targets.state.folder))
    assert cli.main(["run", "--where-possible", str(FOLDER / "drain-node.json")]) == 0
    assert capsys.readouterr().err.startswith("left out: Drain a node: ")


def test_every_fault_action_says_which_kind_it_needs() -> None:
    others = {"await_end", "heal", "random_faults", "wait"}
    assert set(actions.KINDS) == set(actions.__all__) - others
    assert set(regions.KINDS) == set(regions.__all__) - {
        "conflicts_decided", "every_region_is_told", "no_region_decides",
    }  # fmt: skip
