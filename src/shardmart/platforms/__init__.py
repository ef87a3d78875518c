"""Where a cluster runs: the only places that know how the platforms differ.

`of` gives the platform of the cluster in a state folder; `platform` says what one can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .platform import Platform
    from .state import State


def of(state: State) -> Platform:
    """The platform of the cluster in this state folder.  StateError or DescriptionError when there is none."""
    # Imported here: Ansible sends `embedded` as a module's code, without what describes the chart.
    from ..cluster.description import DescriptionError
    from .embedded import EmbeddedPlatform
    from .kubernetes import KubernetesPlatform

    cluster = state.description()
    platforms = {platform.name: platform for platform in (EmbeddedPlatform, KubernetesPlatform)}
    if cluster.platform not in platforms:
        raise DescriptionError(f"no platform {cluster.platform!r}; there are {', '.join(platforms)}")
    made: Platform = platforms[cluster.platform](state, cluster)
    return made
