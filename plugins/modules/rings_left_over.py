#!/usr/bin/python
"""Ansible module: rings on this machine that run although the topology has them no more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rings_left_over
short_description: Find or stop the rings that an earlier topology had
description:
  - A ring is stopped by nobody but the topology that has it. This module names those whose servers run in the state
    folder and that the topology does not have, or stops their servers and keeps their data.
attributes:
  check_mode: {support: full, description: Says which would be stopped.}
  diff_mode: {support: none, description: Names only.}
options:
  state_folder: {description: Folder in which rings keep their files., type: path, required: true}
  declared: {description: Names of the rings that the topology has., type: list, elements: str, required: true}
  state: {description: Whether they are only named., type: str, choices: [found, stopped], default: found}
  wait_seconds: {description: "How long to wait for their servers to end, in seconds.", type: float, default: 120}
requirements: [psutil]
author: Shardmart
"""

EXAMPLES = r"""
- name: Stop the rings that the topology has no more
  rings_left_over:
    state_folder: .shardmart
    declared: "{{ rings | map(attribute='name') }}"
    state: stopped
"""

RETURN = r"""
rings: {description: Names of the rings that run or ran., type: list, returned: always, sample: [carts]}
"""

from itertools import chain
from pathlib import Path

from ansible.module_utils.shardmart.cluster.host import processes
from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.platforms import embedded_ring

ARGUMENTS = {
    "state_folder": {"type": "path", "required": True},
    "declared": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["found", "stopped"], "default": "found"},
    "wait_seconds": {"type": "float", "default": 120.0},
}


def body(module):
    """Find them, and stop them where that is asked for."""
    arguments = module.params
    found = embedded_ring.left_over(Path(arguments["state_folder"]), arguments["declared"])
    stop = arguments["state"] == "stopped"
    if stop and not module.check_mode:
        processes.stop(chain.from_iterable(found.values()), wait_seconds=arguments["wait_seconds"])
    return {"changed": stop and bool(found), "rings": sorted(found)}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
