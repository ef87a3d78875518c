#!/usr/bin/python
"""Ansible module: the state folder, there and marked as ours, or emptied of what is ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_folder
short_description: Have the state folder, or remove from it what this project made
description:
  - Makes the folder with mode 0700, or takes one that is there, and writes a marker into it. A folder that has
    something under a name of ours and no marker is refused.
  - C(absent) removes configuration, data, logs, pid files, secrets, certificates and the description of the cluster
    from a folder with the marker, then the marker. Servers that were fetched, reports of experiments and files of
    others stay.
  - With C(cluster), a folder that holds another cluster is refused.
attributes:
  check_mode: {support: full, description: Says what would be made or removed; refuses as it would.}
  diff_mode: {support: none, description: Names only.}
options:
  path: {description: The folder., type: path, required: true}
  cluster: {description: The cluster as the inventory describes it., type: dict}
  state: {description: Whether our part of it is there., type: str, choices: [present, absent], default: present}
author: Shardmart
"""

EXAMPLES = r"""
- name: Have the state folder
  state_folder:
    path: .shardmart
"""

RETURN = r"""
changes: {description: What was or would be changed., type: list, returned: always}
"""

import shutil
from pathlib import Path

from ansible.module_utils.shardmart.cluster.host import occupant, ownership
from ansible.module_utils.shardmart.cluster.module import cluster_of, run


def body(module):
    """Have it, or remove what is ours."""
    folder = Path(module.params["path"])
    if module.params["cluster"]:
        occupant.refuse_another(folder, cluster_of(module))
    if module.params["state"] == "present":
        changes = ownership.take(folder, check_mode=module.check_mode)
        return {"changed": bool(changes), "changes": changes}
    ownership.refuse_foreign(folder)
    # The marker is the last to go: a run that was killed is finished by the next.
    there = [folder / name for name in (*ownership.KEPT, ownership.MARKER)]
    there = [path for path in there if path.exists() or path.is_symlink()]
    if not module.check_mode:
        for path in there:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return {"changed": bool(there), "changes": [f"remove {path}" for path in there]}


def main():
    """Be the module."""
    run(
        {
            "path": {"type": "path", "required": True},
            "cluster": {"type": "dict"},
            "state": {"choices": ["present", "absent"], "default": "present"},
        },
        body,
    )


if __name__ == "__main__":
    main()
