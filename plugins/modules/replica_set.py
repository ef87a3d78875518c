#!/usr/bin/python
"""Ansible module: form a replica set and keep it as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_set
short_description: Form a MongoDB replica set and keep it as declared
description:
  - Waits for the members, initiates the set if no member has a configuration, has the first member elected at once,
    converges members, priorities, votes, tags and settings by one safe reconfiguration at a time, and waits for a
    writable primary and healthy members.
  - Never initiates a set of which any member already has a configuration.
extends_documentation_fragment: [shardmart.keyfile, shardmart.wait]
attributes:
  check_mode: {support: full, description: Plans the reconfigurations and changes nothing.}
  diff_mode: {support: full, description: Shows the declared part of the configuration before and after.}
options:
  name:
    description: The name of the set.
    type: str
    required: true
  members:
    description: The members, the first of which becomes the first primary.
    type: list
    elements: dict
    required: true
    suboptions:
      host: {description: Address as the other members reach it., type: str, required: true}
      port: {description: Port., type: int, required: true}
      priority: {description: Election priority., type: float, default: 1}
      votes: {description: Votes., type: int, choices: [0, 1], default: 1}
      hidden: {description: Hidden from clients., type: bool, default: false}
      tags: {description: Replica set tags., type: dict, default: {}}
      name: {description: The member's name in the topology; not used., type: str}
      cache_mb: {description: The member's cache in the topology; not used., type: int}
      pod: {description: The member's pod; not used., type: dict}
  config_server:
    description: Whether this is the set of the config servers.
    type: bool
    default: false
  election_timeout_ms:
    description: Time without a primary after which a member stands for election, milliseconds.
    type: int
    default: 10000
  heartbeat_ms:
    description: Interval of heartbeats, milliseconds.
    type: int
    default: 2000
  allow_removal:
    description: Remove members that are not declared. Without it such members are an error.
    type: bool
    default: false
author: Shardmart
"""

EXAMPLES = r"""
- name: Form the first shard
  replica_set:
    name: shard1ReplSet
    members:
      - {host: 127.0.0.1, port: 27201}
      - {host: 127.0.0.1, port: 27202}
      - {host: 127.0.0.1, port: 27203}
    keyfile: .shardmart/secrets/keyfile
"""

RETURN = r"""
changes:
  description: What was changed, in order.
  type: list
  returned: always
  sample: [initiate shard1ReplSet with 3 members]
primary:
  description: The primary at the end, "host:port"; none in check mode.
  type: str
  returned: always
"""

from ansible.module_utils.shardmart.cluster import description
from ansible.module_utils.shardmart.cluster.converge import replica_set
from ansible.module_utils.shardmart.cluster.module import (
    KEYFILE_ARGUMENTS,
    WAIT_ARGUMENT,
    keyfile_credentials,
    run,
)

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "members": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "priority": {"type": "float", "default": 1},
            "votes": {"type": "int", "choices": [0, 1], "default": 1},
            "hidden": {"type": "bool", "default": False},
            "tags": {"type": "dict", "default": {}},
            "name": {"type": "str"},
            "cache_mb": {"type": "int"},
            "pod": {"type": "dict"},
        },
    },
    "config_server": {"type": "bool", "default": False},
    "election_timeout_ms": {"type": "int", "default": 10000},
    "heartbeat_ms": {"type": "int", "default": 2000},
    "allow_removal": {"type": "bool", "default": False},
}


def body(module):
    """Converge the set the arguments describe."""
    arguments = module.params
    members = [{key: value for key, value in m.items() if value is not None} for m in arguments["members"]]
    spec = replica_set.ReplicaSetSpec.of(
        description.parse_set(
            {"name": arguments["name"], "members": members},
            description.Role.CONFIG if arguments["config_server"] else description.Role.SHARD,
        ),
        description.Election(arguments["election_timeout_ms"], arguments["heartbeat_ms"]),
        allow_removal=arguments["allow_removal"],
    )
    return replica_set.converge(
        spec, keyfile_credentials(module), wait_seconds=arguments["wait_seconds"], check_mode=module.check_mode
    )


def main():
    """Be the module."""
    run(ARGUMENTS | KEYFILE_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
