#!/usr/bin/python
"""Ansible module: the timer of the comparing repair as a process of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repair_timer
short_description: Run the comparing repair of the region nodes again and again
description:
  - Starts C(shardmart fragments repair --every) as a process that survives the play; one that runs with other
    arguments is started anew. It finds the nodes in the state folder.
attributes:
  check_mode: {support: full, description: Says what would be started or stopped.}
  diff_mode: {support: none, description: The changes are returned as lines instead.}
options:
  state_folder: {description: Folder with the cluster's state., type: path, required: true}
  every_seconds: {description: "How long between two repairs, in seconds; 0 stops it.", type: float, required: true}
  wait_seconds: {description: "How long to wait for one to end, in seconds.", type: float, default: 60}
requirements: [psutil]
author: Shardmart
"""

EXAMPLES = r"""
- name: Repair every minute
  repair_timer:
    state_folder: .shardmart
    every_seconds: 60
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [start fragments-repair]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.cluster.protocol.connection import Deadline
from ansible.module_utils.shardmart.platforms import repair_timer

ARGUMENTS = {
    "state_folder": {"type": "path", "required": True},
    "every_seconds": {"type": "float", "required": True},
    "wait_seconds": {"type": "float", "default": 60.0},
}


def body(module):
    """Converge the timer."""
    state, every = Path(module.params["state_folder"]), module.params["every_seconds"]
    deadline = Deadline(module.params["wait_seconds"])
    return Outcome(repair_timer.converge(state, every, deadline, check_mode=module.check_mode))


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
