"""What a running release could not take of new values: pure comparisons, in the words in which the chart refuses them.

The chart itself looks (templates/_validate.tpl) where Helm lets it; this is for where it cannot, as under Argo CD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADVICE = "its members know each other by it. Put it back, or make a new cluster and move the data"


def removals(running: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """StatefulSets (name → members) that would go, or lose members; a sentence each."""
    problems = []
    for name, members in sorted(running.items()):
        if members and name not in wanted:
            problems.append(
                f"{name} runs here and these values do not have it: its documents would be lost. Put it back; "
                "removing a shard needs draining, which this version cannot do"
            )
        elif members > wanted.get(name, 0):
            problems.append(
                f"{name} has {members} members and these values only {wanted[name]}: fewer members are refused until "
                "they can be taken out of the set first"
            )
    return problems


def changes(running: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two documents `release.json` and cannot change while the cluster runs; a sentence each."""
    problems = []
    for key, value in (("port", "port"), ("clusterDomain", "cluster_domain")):
        before, after = running["release"][value], wanted["release"][value]
        if before != after:
            problems.append(f"{key}: the cluster runs with {before} and these values have {after}: {ADVICE}")
    names = {found["name"]: found["replicaSet"] for found in running["sets"]}
    for found in wanted["sets"]:
        before = names.get(found["name"], found["replicaSet"])
        if before != found["replicaSet"]:
            problems.append(f"{found['name']}: runs as {before}, and a replica set cannot be renamed")
    return problems
