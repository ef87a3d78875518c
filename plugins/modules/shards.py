#!/usr/bin/python
"""Ansible module: the shards of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: shards
short_description: Add shards under their exact names
description:
  - Waits until the router reaches the config servers and adds the shards that are missing.
  - Never removes a shard. A shard that is draining, or registered with another replica set, is an error.
extends_documentation_fragment: [shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says what would be added.}
  diff_mode: {support: full, description: Shows the shards before and after.}
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
      name: {description: Exact name of the shard and of its replica set., type: str, required: true}
      members: {description: Members with C(host) and C(port)., type: list, elements: dict, required: true}
      zones: {description: Zones the shard serves; the C(zones) module's., type: list, elements: str, default: []}
author: Shardmart
"""

EXAMPLES = r"""
- name: Add the shards
  shards:
    router: 127.0.0.1:27017
    shards:
      - name: shard1ReplSet
        members: [{host: 127.0.0.1, port: 27201}]
    login_password_file: .shardmart/secrets/admin.password
"""

RETURN = r"""
changes:
  description: What was changed, in order.
  type: list
  returned: always
  sample: [add shard shard1ReplSet]
"""

from ansible.module_utils.shardmart.cluster import description
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
            "members": {"type": "list", "elements": "dict", "required": True},
            "zones": {"type": "list", "elements": "str", "default": []},
        },
    },
}


def body(module):
    """Converge the shards the arguments describe."""
    arguments = module.params
    shards = [sharding.ShardSpec.of(description.parse_set(shard)) for shard in arguments["shards"]]
    credentials = login_credentials(module)
    if module.check_mode and not sharding.answers(arguments["router"], credentials):
        return Outcome([f"add shard {shard.name}" for shard in shards])
    deadline = connection.Deadline(arguments["wait_seconds"])
    sharding.wait_for_router(arguments["router"], credentials, deadline)
    with connection.connect(arguments["router"], credentials) as client:
        return sharding.converge_shards(shards, client, deadline, check_mode=module.check_mode)


def main():
    """Be the module."""
    run(ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
