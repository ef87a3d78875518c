"""Which cluster a state folder holds: one, and no other is made in it or removed through it.

`cluster.json` says what every command speaks to.  A second cluster in the folder would take its place: nobody would
find the first one's servers any more, and `destroy` would remove their data under them.  Nothing here changes anything.
"""

from __future__ import annotations

from pathlib import Path

from .. import description
from ..description import Cluster, DescriptionError
from ..errors import ClusterError
from . import ownership

DESCRIPTION = "cluster.json"
OF_PROCESSES = ("data", "rings", "postgres", "shop")
"""What only servers of this machine leave in a state folder: those of an unfinished cluster, of rings, of fragments."""
OF_KIND = "kubeconfig"
"""What only a kind cluster of ours leaves in it."""


def refuse_another(folder: Path, cluster: Cluster) -> None:
    """ClusterError, in one line, when the state folder holds another cluster than `cluster`.

    Another one is of another platform, release, namespace or context; what of the same one cannot change is
    `converge.unchangeable`'s to say.
    """
    if found := _found(folder, cluster):
        what, inventory = found
        raise ClusterError(
            f"{folder} holds {what}, and this is another one, {_what(cluster)}: name another folder with "
            "SHARDMART_STATE, or first remove the one that is there: ansible-playbook "
            f"-i {inventory} playbooks/destroy.yml -e destroy_data=true (with the -e topology it was made with)"
        )


def _found(folder: Path, cluster: Cluster) -> tuple[str, str] | None:
    """What there is of another cluster, and the inventory that removes it."""
    try:
        there = description.read(folder / DESCRIPTION)
    except FileNotFoundError:
        return _unfinished(folder, cluster)
    except (DescriptionError, OSError):
        return None  # by a command that reads it, and says so
    return None if _is_same(place(there), place(cluster)) else (_what(there), _inventory(there))


def _is_same(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> bool:
    """Whether two places are one; a description of an earlier version does not say its context."""
    return len(one) == len(other) and all(a == b or a is None or b is None for a, b in zip(one, other, strict=True))


def _unfinished(folder: Path, cluster: Cluster) -> tuple[str, str] | None:
    """What a run left that did not come to the description, or that never has one."""
    if not ownership.is_ours(folder):
        return None
    if cluster.kubernetes is None:
        left = (folder / OF_KIND).exists()
        return ("an unfinished kind cluster", "inventories/kind") if left else None
    names = [name for name in OF_PROCESSES if (folder / name).is_dir() and any((folder / name).iterdir())]
    return (f"servers of this machine ({', '.join(names)})", "inventories/embedded") if names else None


def place(cluster: Cluster) -> tuple[str | None, ...]:
    """Which cluster a description is about."""
    there = cluster.kubernetes
    return (cluster.platform, *((there.release, there.namespace, there.context) if there else ()))


def _what(cluster: Cluster) -> str:
    there = cluster.kubernetes
    if there is None:
        return f"cluster {cluster.name} of processes of this machine"
    return f"cluster {cluster.name} of pods (release {there.release}, namespace {there.namespace}, {there.context})"


def _inventory(cluster: Cluster) -> str:
    there = cluster.kubernetes
    if there is None:
        return "inventories/embedded"
    return "inventories/kubernetes" if there.kubeconfig else "inventories/kind"
