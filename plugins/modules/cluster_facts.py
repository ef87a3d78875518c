#!/usr/bin/python
"""Ansible module: what a running cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_facts
short_description: Read sets, members, lag, shards, balancer, chunks and documents of a cluster
description:
  - Changes nothing. A server that does not answer is a fact, listed in C(problems), not a failure.
extends_documentation_fragment: [shardmart.keyfile, shardmart.login]
attributes:
  check_mode: {support: full, description: Reads the same.}
  diff_mode: {support: none, description: Nothing is changed.}
options:
  cluster:
    description: The cluster as the inventory describes it.
    type: dict
    required: true
author: Shardmart
"""

EXAMPLES = r"""
- name: Read the cluster
  cluster_facts:
    cluster: "{{ cluster }}"
    login_user: monitor
    login_password_file: .shardmart/secrets/monitor.password
    keyfile: .shardmart/secrets/keyfile
"""

RETURN = r"""
sets: {description: "Replica sets with their members' state, lag and uptime.", type: list, returned: always}
routers: {description: Routers with version and uptime., type: list, returned: always}
sharding: {description: "Shards, balancer, collections; null when no router answers.", type: dict, returned: always}
problems: {description: What is not as it should be., type: list, returned: always}
"""

from ansible.module_utils.shardmart.cluster.module import (
    CLUSTER_ARGUMENT,
    KEYFILE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    cluster_of,
    keyfile_credentials,
    login_credentials,
    run,
)
from ansible.module_utils.shardmart.cluster.observe import facts


def body(module):
    """Gather the facts."""
    found = facts.gather(cluster_of(module), router=login_credentials(module), members=keyfile_credentials(module))
    return {"changed": False} | found


def main():
    """Be the module."""
    run(CLUSTER_ARGUMENT | KEYFILE_ARGUMENTS | LOGIN_ARGUMENTS, body)


if __name__ == "__main__":
    main()
