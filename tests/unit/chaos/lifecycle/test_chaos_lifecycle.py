"""A fault is written down before it begins, and whatever its guard dies of, the record is enough to mend it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pod_cluster import pod_targets

from shardmart.chaos.errors import ChaosError, ImpossibleError
from shardmart.chaos.faults import disk, drain, injectors, kinds, pods, through_toolbox
from shardmart.chaos.faults.fault import Fault
from shardmart.chaos.lifecycle import guard, heal, records, register
from shardmart.chaos.lifecycle.records import ACTIVE, BEGINNING, ENDED, REFUSED, STARTING, Record
from shardmart.chaos.targets.selectors import Targets

__all__ = ["pod_targets"]  # the fixture


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is tidied up."""


class Spy(Fault):
    """Says what was done to it, and with which parameters."""

    kind = "spy"
    told: ClassVar[list[tuple[str, Mapping[str, Any]]]] = []
    fails: ClassVar[dict[str, BaseException]] = {}

    def _step(self, word: str) -> None:
        self.told.append((word, dict(self.parameters)))
        if word in self.fails:
            raise self.fails[word]

    def prepare(self) -> None:
        self.parameters["home"] = "here"
        self._step("prepare")

    def begin(self) -> None:
        self._step("begin")

    def hold(self, stop: threading.Event, deadline: float) -> None:
        self._step("hold")

    def end(self) -> None:
        self._step("end")


@pytest.fixture
def spy(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    """A kind of fault whose steps can be made to fail."""
    monkeypatch.setattr(Spy, "told", [])
    monkeypatch.setattr(Spy, "fails", {})
    monkeypatch.setitem(kinds.PLATFORMS, "embedded", lambda targets: kinds.Faults({"spy": Spy}, {}))
    return Spy


@pytest.fixture
def record(targets: Targets, spy: type[Spy]) -> Record:
    """A fault that was asked for."""
    return register.asked_for(targets, "spy", "spy", targets.resolve("shard1-1"), 10)


def hold(targets: Targets, record: Record) -> int:
    return guard.guard(targets.state, record.id, threading.Event())


def words(spy: type[Spy]) -> list[str]:
    return [word for word, _ in spy.told]


def now(targets: Targets, record: Record) -> Record:
    return records.read(targets.state, record.id)


def test_record_holds_what_end_needs_before_anything_is_broken(
    targets: Targets, spy: type[Spy], record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Record] = []
    monkeypatch.setattr(spy, "begin", lambda self: seen.append(now(targets, record)))
    assert hold(targets, record) == guard.DONE
    assert (seen[0].status, seen[0].parameters["home"], seen[0].guard is not None) == (BEGINNING, "here", True)
    assert now(targets, record).status == ENDED


def test_guard_that_dies_while_it_begins_leaves_what_heal_needs(
    targets: Targets, spy: type[Spy], record: Record
) -> None:
    spy.fails["begin"] = Killed()
    with pytest.raises(Killed):
        hold(targets, record)
    assert now(targets, record).status == BEGINNING
    assert heal.heal(targets.state) == [record.id]
    assert spy.told[-1] == ("end", {"id": record.id, "home": "here"})
    assert (now(targets, record).status, records.active(targets.state)) == (ENDED, [])


def test_guard_that_dies_while_it_prepares_has_broken_nothing(targets: Targets, spy: type[Spy], record: Record) -> None:
    spy.fails["prepare"] = Killed()
    with pytest.raises(Killed):
        hold(targets, record)
    assert now(targets, record).status == STARTING
    assert heal.heal(targets.state) == [record.id]
    assert (words(spy), now(targets, record).status) == (["prepare"], REFUSED)


def test_guard_that_dies_while_it_holds_is_healed(targets: Targets, spy: type[Spy], record: Record) -> None:
    spy.fails["hold"] = Killed()
    spy.fails["end"] = Killed()
    with pytest.raises(Killed):
        hold(targets, record)
    assert now(targets, record).status == ACTIVE
    spy.fails.clear()
    assert heal.heal(targets.state) == [record.id]
    assert (words(spy)[-1], now(targets, record).status) == ("end", ENDED)


def test_fault_that_cannot_begin_is_undone_and_refused(targets: Targets, spy: type[Spy], record: Record) -> None:
    spy.fails["begin"] = ChaosError("no such disk")
    assert hold(targets, record) == guard.NOT_BEGUN
    assert (now(targets, record).status, now(targets, record).reason) == (REFUSED, "no such disk")
    assert words(spy) == ["prepare", "begin", "end"]


def test_fault_that_was_begun_by_half_and_cannot_be_undone_stays_to_be_healed(
    targets: Targets, spy: type[Spy], record: Record
) -> None:
    spy.fails["begin"], spy.fails["end"] = ChaosError("the API is away"), ChaosError("it still is")
    assert hold(targets, record) == guard.NOT_BEGUN
    with pytest.raises(ChaosError, match="it still is"):
        heal.heal(targets.state)
    assert [left.id for left in records.active(targets.state)] == [record.id]
    spy.fails.clear()
    assert heal.heal(targets.state) == [record.id]
    assert records.active(targets.state) == []


def test_fault_that_cannot_be_undone_does_not_keep_others_from_it(
    targets: Targets, spy: type[Spy], record: Record
) -> None:
    for name in ("shard9-1", "shard1-2"):  # the first is of an older topology
        records.write(targets.state, Record(f"of {name}", "spy", "spy", [name], 10, status=ACTIVE))
    with pytest.raises(ChaosError, match="of shard9-1 could not be ended: no server 'shard9-1'"):
        heal.heal(targets.state)
    assert [left.id for left in records.active(targets.state)] == ["of shard9-1"]


def test_fault_that_is_healed_before_it_begins_breaks_nothing(targets: Targets, spy: type[Spy], record: Record) -> None:
    stop = threading.Event()
    stop.set()
    assert guard.guard(targets.state, record.id, stop) == guard.NOT_BEGUN
    assert (words(spy), now(targets, record).status) == (["prepare"], REFUSED)


def test_fault_with_nothing_to_break_is_refused_and_not_undone(
    targets: Targets, spy: type[Spy], record: Record
) -> None:
    spy.fails["prepare"] = ChaosError("shard1-1 does not run")
    assert hold(targets, record) == guard.NOT_BEGUN
    assert (words(spy), now(targets, record).status) == (["prepare"], REFUSED)


def test_healed_twice_is_ended_once(targets: Targets, spy: type[Spy], record: Record) -> None:
    hold(targets, record)
    assert heal.heal(targets.state) == []
    assert words(spy).count("end") == 1


@pytest.mark.parametrize(
    ("seconds", "message"), [(0, "more than 0"), (-1, "more than 0"), (3601, "at most 3600"), (float("nan"), "at most")]
)
def test_length_that_makes_no_sense_is_refused(targets: Targets, spy: type[Spy], seconds: float, message: str) -> None:
    with pytest.raises(ChaosError, match=message):
        register.asked_for(targets, "spy", "spy", targets.resolve("shard1-1"), seconds)
    assert records.records(targets.state) == []


def test_longest_fault_is_an_hour(targets: Targets, spy: type[Spy]) -> None:
    assert register.asked_for(targets, "spy", "spy", targets.resolve("shard1-1"), 3600).duration_s == 3600


def test_kind_that_the_platform_has_not_leaves_no_record(targets: Targets) -> None:
    with pytest.raises(ImpossibleError, match="drain-node: processes of one machine have no node"):
        register.start(targets, "drain", "drain-node", targets.resolve("shard1-1"), 10)
    assert records.records(targets.state) == []


def test_register_is_as_patient_as_a_fault_may_take_to_begin() -> None:
    """A durable write on a slow disk is given a minute; pods are given START_SECONDS to come."""
    assert disk.SlowWrites.begin_seconds > disk.MEASURE_SECONDS
    assert pods.PodFault.begin_seconds > injectors.START_SECONDS + pods.LEAD_SECONDS
    assert through_toolbox.ThroughToolbox.begin_seconds >= 30


def test_node_that_was_cordoned_by_a_dead_guard_is_used_again(
    pod_targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard is killed in the middle of `cordon`: what is on disk then is all that `heal` has.

    n1 has the toolbox, and n3 was cordoned by somebody else: neither is touched.
    """
    cordoned: dict[str, bool] = {"n2": False}

    def cordon_node(name: str) -> None:
        cordoned[name] = True
        raise Killed

    def patch_node(name: str, body: Any) -> None:
        cordoned[name] = body["spec"]["unschedulable"]

    toolbox = SimpleNamespace(items=[SimpleNamespace(spec=SimpleNamespace(node_name="n1"))])
    core = SimpleNamespace(
        list_node=lambda: SimpleNamespace(
            items=[
                SimpleNamespace(metadata=SimpleNamespace(name=name), spec=SimpleNamespace(unschedulable=name == "n3"))
                for name in ("n1", "n2", "n3")
            ]
        ),
        list_namespaced_pod=lambda namespace, label_selector: toolbox,
        patch_node=patch_node,
    )
    api = SimpleNamespace(
        core=core,
        release=SimpleNamespace(namespace="shop"),
        pods=lambda servers: [SimpleNamespace(node=name) for name in ("n1", "n3", "n2")],
    )
    monkeypatch.setattr(drain, "KubernetesApi", lambda of: api)
    monkeypatch.setattr("chaosk8s.node.actions.cordon_node", cordon_node)
    record = register.asked_for(pod_targets, "drain", "drain-node", pod_targets.resolve("shard1-1"), 10)
    with pytest.raises(Killed):
        hold(pod_targets, record)
    assert cordoned == {"n2": True}
    assert heal.heal(pod_targets.state) == [record.id]
    assert cordoned == {"n2": False}
