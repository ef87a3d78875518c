"""Experiment files, before they run: whether this cluster can do one, and what differs by platform in it.

One file serves every platform.  A value that has to differ is a mapping from the platform's name to the value in the
experiment's `configuration`, for example `"down_s": {"embedded": 20, "kubernetes": 1}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ChaosError, ImpossibleError
from ..faults.kinds import requirement
from ..targets import shop
from ..targets.selectors import Targets
from . import actions, regions, rings

OF_A_SHOP = "rolling"
"""A kind of fault that is there wherever a shop can be broken."""


def read(path: Path) -> dict[str, Any]:
    """The experiment in a file.  Raises ChaosError when it is none."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ChaosError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or "method" not in document:
        raise ChaosError(f"{path} is no experiment: it has no method")
    return document


def refuse_impossible(targets: Targets, experiment: Mapping[str, Any]) -> None:
    """Raise ImpossibleError, which says what is missing, when this cluster cannot do an experiment.  Starts nothing."""
    title = experiment.get("title", "this experiment")
    platform = targets.platform.name
    if not any((activity.get("provider") or {}).get("module") == rings.__name__ for activity in experiment["method"]):
        targets.require_cluster()
    elif not targets.rings:
        raise ImpossibleError(f"{title}: there is no ring here: run `make ring`")
    if "shop" in _workloads(experiment) and (lacking := requirement(targets, OF_A_SHOP)):
        raise ImpossibleError(f"{title}: {lacking}")
    for name, value in (experiment.get("configuration") or {}).items():
        if isinstance(value, Mapping) and "type" not in value and platform not in value:
            raise ImpossibleError(f"{title}: its {name} says nothing for the platform {platform}")
    for activity in experiment["method"]:
        if lacking := _lacking(targets, activity.get("provider") or {}):
            raise ImpossibleError(f"{title}: {lacking}")


def _workloads(experiment: Mapping[str, Any]) -> list[str]:
    """What the ledger runs beside the experiment."""
    given = [(control.get("provider") or {}).get("arguments") or {} for control in experiment.get("controls") or []]
    return [name for arguments in given for name in str(arguments.get("workloads", "")).split(",")]


def _lacking(targets: Targets, provider: Mapping[str, Any]) -> str | None:
    if provider.get("module") not in {actions.__name__, regions.__name__}:
        return None
    if lacking := shop.lacking(targets.cluster, str((provider.get("arguments") or {}).get("targets", ""))):
        return lacking
    kind = (actions.KINDS | regions.KINDS).get(str(provider.get("func")))
    return requirement(targets, kind) if kind else None
