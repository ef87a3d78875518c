"""Which kinds of fault there are on the platform of a cluster: the one place of `chaos` that names platforms."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shardmart.platforms.kubernetes import KubernetesPlatform

from ..errors import ChaosError, ImpossibleError
from ..targets.selectors import Targets
from . import database
from .fault import Fault


@dataclass(frozen=True)
class Faults:
    """The kinds of one platform, why it has none of some others, and the environment of a process that holds one."""

    kinds: Mapping[str, type[Fault]]
    without: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def _of_processes(targets: Targets) -> Faults:
    from . import disk, loopback, postgres, processes, regions, shop

    del targets
    own: tuple[type[Fault], ...] = (processes.Kill, processes.EmptyFolder, processes.Pause)
    own += (loopback.Network, disk.SlowWrites, *postgres.KINDS, *regions.KINDS, *shop.KINDS)
    return Faults(
        database.KINDS | {fault.kind: fault for fault in own},
        {"drain": "processes of one machine have no node to drain"},
    )


def _of_pods(targets: Targets) -> Faults:
    # They need the Kubernetes client, which the others do without.
    from . import drain, pods, shop, shop_pods, store_pods, through_toolbox

    assert isinstance(targets.platform, KubernetesPlatform)
    # chaostoolkit-kubernetes reads it.
    environment = targets.platform.environment() | ({"CHAOSTOOLKIT_IN_POD": "true"} if targets.platform.inside else {})
    own: tuple[type[Fault], ...] = (pods.PodNetwork, pods.PodKill, pods.PodPause, drain.Drain)
    own += (shop.ProviderRules, shop_pods.PodRollingRestart, *store_pods.KINDS)
    return Faults(
        (database.KINDS if targets.platform.direct else through_toolbox.KINDS) | {fault.kind: fault for fault in own},
        {
            "slowdisk": "there is no slow disk on pods: the control groups of their nodes are the kubelet's",
            "emptyfolder": "a pod's data folder is its volume: nothing here removes one",
        },
        environment,
    )


PLATFORMS: dict[str, Callable[[Targets], Faults]] = {"embedded": _of_processes, "kubernetes": _of_pods}


def _faults(targets: Targets) -> Faults:
    platform = targets.platform.name
    if platform not in PLATFORMS:
        raise ChaosError(f"no faults for the platform {platform!r}; there are some for {' and '.join(PLATFORMS)}")
    return PLATFORMS[platform](targets)


def kind_of(targets: Targets, kind: str) -> type[Fault]:
    """The class of the faults of one kind.  Raises ImpossibleError when the platform has none."""
    faults = _faults(targets)
    if kind not in faults.kinds:
        raise ImpossibleError(
            faults.without.get(kind, f"there is no fault of the kind {kind} on {targets.platform.name}")
        )
    return faults.kinds[kind]


def requirement(targets: Targets, kind: str) -> str | None:
    """What is missing here for faults of `kind`, in words; None when nothing."""
    try:
        return kind_of(targets, kind).requirement(targets)
    except ImpossibleError as error:
        return str(error)


def environment(targets: Targets) -> dict[str, str]:
    """Environment of the process that holds a fault."""
    return dict(_faults(targets).environment)
