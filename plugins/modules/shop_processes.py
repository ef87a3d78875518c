#!/usr/bin/python
"""Ansible module: the shop's processes on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: shop_processes
short_description: Run the shop's cache, event log, service instances and load balancer as processes of this machine
description:
  - Writes the configuration of each, starts those that do not run, all at once, and waits until they are ready.
  - An instance whose configuration changed is restarted, one at a time, so that its service never stops; the load
    balancer takes over new instances without a restart.
  - What an earlier topology had is stopped. A process is recognised by its command line.
attributes:
  check_mode: {support: full, description: Says what would be started, restarted or stopped.}
  diff_mode: {support: none, description: The configurations hold secrets.}
options:
  cluster:
    description: The cluster as the inventory describes it.
    type: dict
    required: true
  state_folder:
    description: Folder with the cluster's secrets; the shop's files are in its folder C(shop).
    type: path
    required: true
  part:
    description: Which of the processes; C(store) is none and writes the file that C(shardmart shop migrate) reads.
    type: str
    choices: [store, cache, event_log, services, load_balancer]
    required: true
  state:
    description: Whether they run.
    type: str
    choices: [started, stopped]
    default: started
  kafka_jars:
    description: Folder with Kafka's jars; needed where the topology has brokers.
    type: path
  wait_seconds:
    description: How long to wait in all, in seconds.
    type: float
    default: 60
requirements: [psutil]
author: Shardmart
"""

EXAMPLES = r"""
- name: Run the services
  shop_processes:
    cluster: "{{ cluster }}"
    state_folder: .shardmart
    part: services
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [start order-1]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.module import CLUSTER_ARGUMENT, cluster_of, run
from ansible.module_utils.shardmart.cluster.protocol.connection import Deadline
from ansible.module_utils.shardmart.platforms.embedded_shop import converge

ARGUMENTS = CLUSTER_ARGUMENT | {
    "state_folder": {"type": "path", "required": True},
    "part": {"type": "str", "choices": list(converge.PARTS), "required": True},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "kafka_jars": {"type": "path"},
    "wait_seconds": {"type": "float", "default": 60.0},
}


def body(module):
    """Converge one part."""
    arguments = module.params
    state, deadline = Path(arguments["state_folder"]), Deadline(arguments["wait_seconds"])
    if arguments["state"] == "stopped":
        changes = converge.stopped(arguments["part"], state, deadline, check_mode=module.check_mode)
    else:
        cluster = cluster_of(module)
        jars = Path(arguments["kafka_jars"]) if arguments["kafka_jars"] else None
        changes = converge.started(
            arguments["part"], cluster, state, deadline, kafka_jars=jars, check_mode=module.check_mode
        )
    return {"changed": bool(changes), "changes": changes}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
