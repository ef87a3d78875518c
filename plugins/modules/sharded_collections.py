#!/usr/bin/python
"""Ansible module: sharded collections with their zones, validators and indexes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sharded_collections
short_description: Keep collections sharded, zoned, pre-split, validated and indexed as declared
description:
  - Zone ranges are set before a collection is sharded, so that an empty collection already spreads over its zones.
  - Indexes are compared by their definition, not by their name; none is ever dropped.
  - A collection sharded by another key, or that holds documents and is not sharded, is an error.
extends_documentation_fragment: [shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says what would be changed.}
  diff_mode: {support: full, description: Shows keys and zones before and after.}
options:
  router:
    description: Address of a router, "host:port".
    type: str
    required: true
  database:
    description: The database of the collections.
    type: str
    required: true
  collections:
    description: The declared collections.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      shard_key: {description: 'Field to 1 or "hashed"; the order counts.', type: dict, required: true}
      indexes:
        description: Indexes with C(name), C(keys) and options as createIndexes has them.
        type: list
        elements: dict
        default: []
      zone_ranges:
        description: "Ranges as C({zone, min, max}); fields of the key that a bound leaves out are MinKey."
        type: list
        elements: dict
        default: []
      validator: {description: A query document that every document must match., type: dict}
author: Shardmart
"""

EXAMPLES = r"""
- name: Shard the orders
  sharded_collections:
    router: 127.0.0.1:27017
    database: ecommerce
    collections:
      - name: orders
        shard_key: {region: 1, user_id: hashed}
        zone_ranges: [{zone: APJ, min: {region: APJ}, max: {region: EMEA}}]
    login_password_file: .shardmart/secrets/admin.password
"""

RETURN = r"""
changes:
  description: What was changed, in order.
  type: list
  returned: always
  sample: ["ecommerce.orders: shard by {region: 1, user_id: hashed}"]
"""

from ansible.module_utils.shardmart.cluster.converge import sharding
from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import (
    LOGIN_ARGUMENTS,
    WAIT_ARGUMENT,
    collection_specs,
    login_credentials,
    run,
)
from ansible.module_utils.shardmart.cluster.protocol import connection

ARGUMENTS = {
    "router": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "collections": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "shard_key": {"type": "dict", "required": True, "no_log": False},
            "indexes": {"type": "list", "elements": "dict", "default": []},
            "zone_ranges": {"type": "list", "elements": "dict", "default": []},
            "validator": {"type": "dict"},
        },
    },
}


def body(module):
    """Converge the collections the arguments describe."""
    arguments = module.params
    collections = collection_specs(arguments["collections"])
    credentials = login_credentials(module)
    if module.check_mode and not sharding.answers(arguments["router"], credentials):
        return Outcome([f"{arguments['database']}.{c.name}: shard" for c in collections])
    deadline = connection.Deadline(arguments["wait_seconds"])
    sharding.wait_for_router(arguments["router"], credentials, deadline)
    with connection.connect(arguments["router"], credentials) as client:
        return sharding.converge_collections(
            arguments["database"], collections, client, deadline, check_mode=module.check_mode
        )


def main():
    """Be the module."""
    run(ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
