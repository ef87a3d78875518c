#!/usr/bin/python
"""Ansible module: the zones each shard serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zones
short_description: Give each shard exactly the zones it is declared to serve
description:
  - Adds and removes zones of the shards given; which documents belong to a zone is C(sharded_collections)'s.
extends_documentation_fragment: [shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says what would be changed.}
  diff_mode: {support: full, description: Shows each shard's zones before and after.}
options:
  router:
    description: Address of a router, "host:port".
    type: str
    required: true
  shards:
    description: The declared shards.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Exact name of the shard., type: str, required: true}
      zones: {description: Zones the shard serves., type: list, elements: str, default: []}
      members: {description: The shard's members; not used., type: list, elements: dict}
author: Shardmart
"""

EXAMPLES = r"""
- name: Keep APJ on the first shard
  zones:
    router: 127.0.0.1:27017
    shards:
      - {name: shard1ReplSet, zones: [APJ]}
    login_password_file: .shardmart/secrets/admin.password
"""

RETURN = r"""
changes:
  description: What was changed, in order.
  type: list
  returned: always
  sample: ["shard1ReplSet: serve zone APJ"]
"""

from ansible.module_utils.shardmart.cluster.converge import sharding
from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import LOGIN_ARGUMENTS, WAIT_ARGUMENT, login_credentials, run
from ansible.module_utils.shardmart.cluster.protocol import connection

ARGUMENTS = {
    "router": {"type": "str", "required": True},
    "shards": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "zones": {"type": "list", "elements": "str", "default": []},
            "members": {"type": "list", "elements": "dict"},
        },
    },
}


def body(module):
    """Converge the zones the arguments describe."""
    arguments = module.params
    shards = [
        sharding.ShardSpec(name=shard["name"], members=(), zones=tuple(shard["zones"])) for shard in arguments["shards"]
    ]
    credentials = login_credentials(module)
    if module.check_mode and not sharding.answers(arguments["router"], credentials):
        return Outcome([f"{s.name}: serve zone {zone}" for s in shards for zone in s.zones])
    deadline = connection.Deadline(arguments["wait_seconds"])
    sharding.wait_for_router(arguments["router"], credentials, deadline)
    with connection.connect(arguments["router"], credentials) as client:
        return sharding.converge_zones(shards, client, deadline, check_mode=module.check_mode)


def main():
    """Be the module."""
    run(ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
