"""Which kinds of fault the cluster's platform has, and what it lacks for one."""

from __future__ import annotations

import os

from . import faults, process_faults
from .errors import ChaosError
from .faults import Fault
from .targets import Targets
from .toolbox import inside_kubernetes


def kinds(targets: Targets) -> dict[str, type[Fault]]:
    """The fault classes by kind.  Raises ChaosError for a platform without faults."""
    if targets.platform == "embedded":
        return faults.KINDS | process_faults.KINDS
    if targets.platform == "kind":
        from . import pod_faults  # needs the Kubernetes client, which the embedded platform does without

        direct = inside_kubernetes(targets.state)
        return (faults.KINDS if direct else pod_faults.THROUGH_TOOLBOX) | pod_faults.KINDS
    raise ChaosError(f"no faults for the platform {targets.platform!r}; there are some for embedded and kind")


def environment(targets: Targets) -> dict[str, str]:
    """Environment of the process that holds a fault: chaostoolkit-kubernetes reads `$KUBECONFIG` on import."""
    kubeconfig = targets.state.folder / "kubeconfig"
    return os.environ | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig.exists() else {})


def requirement(targets: Targets, kind: str) -> str | None:
    """What is missing here for faults of `kind`, in words; None when nothing."""
    if targets.platform == "embedded":
        return process_faults.requirement(kind)
    if kind == "slowdisk":
        return "there is no slow disk on pods: the control groups of their nodes are the kubelet's"
    return None
