#!/usr/bin/python
"""Ansible module: a consistent-hash ring of standalone servers on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ring
short_description: Run a consistent-hash ring of standalone MongoDB servers on this machine
description:
  - Starts the ring's nodes and the store of its membership, makes their users, writes the settings for clients, and
    makes the ring.
  - A node more or less than the ring has is moved to or from while clients read and write; a change that was
    interrupted is finished.
  - A node that was started again is compared with the others before it serves.
attributes:
  check_mode: {support: full, description: Says what would be started or stopped.}
  diff_mode: {support: none, description: The changes are returned as lines instead.}
options:
  ring:
    description: The ring as the inventory describes it.
    type: dict
    required: true
  state_folder:
    description: Folder in which the ring keeps its files, and C(secrets/ring-NAME-*.password) are.
    type: path
    required: true
  mongod:
    description: Path of mongod; needed to start.
    type: path
  state:
    description: Whether it runs.
    type: str
    choices: [started, stopped]
    default: started
  wait_seconds:
    description: How long to wait for one thing, in seconds.
    type: float
    default: 120
requirements: [psutil, pymongo, pyyaml]
author: Shardmart
"""

EXAMPLES = r"""
- name: Have the ring run
  ring:
    ring: "{{ rings[0] }}"
    state_folder: .shardmart
    mongod: /usr/bin/mongod
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [start carts-1]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.errors import ShardmartError
from ansible.module_utils.shardmart.platforms.embedded_ring import EmbeddedRing

ARGUMENTS = {
    "ring": {"type": "dict", "required": True},
    "state_folder": {"type": "path", "required": True},
    "mongod": {"type": "path"},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "wait_seconds": {"type": "float", "default": 120.0},
}


def body(module):
    """Converge the ring."""
    arguments = module.params
    ring = EmbeddedRing(arguments["ring"], Path(arguments["state_folder"]))
    how = {"wait_seconds": arguments["wait_seconds"], "check": module.check_mode}
    try:
        if arguments["state"] == "stopped":
            changes = ring.stop(**how)
        else:
            changes = ring.converge(arguments["mongod"] or "mongod", **how)
    except ShardmartError as error:
        module.fail_json(msg=str(error))
    return {"changed": bool(changes), "changes": changes}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
