#!/usr/bin/python
"""Ansible module: check what a user of the cluster relies on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_verification
short_description: Check what a user of the cluster relies on
description:
  - Members healthy, shards present, balancer on, collections as declared, a majority write through every router read
    back, unauthenticated access refused, C(strangers) cannot read the collections. Fails with every claim that does
    not hold.
  - Its write goes to a collection of its own and is deleted again, so it never reports a change.
extends_documentation_fragment: [shardmart.keyfile, shardmart.login]
attributes:
  check_mode: {support: full, description: Checks nothing; the cluster may not exist yet.}
  diff_mode: {support: none, description: Nothing is changed.}
options:
  cluster:
    description: The cluster as the inventory describes it.
    type: dict
    required: true
  database:
    description: The database of the data model.
    type: str
    required: true
  collections:
    description: The collections of the data model, as C(sharded_collections) takes them.
    type: list
    elements: dict
    required: true
  strangers:
    description: Users that must not be able to read any of these collections.
    type: list
    elements: str
  secrets:
    description: Folder with the C(NAME.password) of each of them where the module runs.
    type: path
author: Shardmart
"""

EXAMPLES = r"""
- name: Verify the cluster
  cluster_verification:
    cluster: "{{ cluster }}"
    database: ecommerce
    collections: "{{ data_model.collections }}"
    login_password_file: .shardmart/secrets/admin.password
    keyfile: .shardmart/secrets/keyfile
"""

RETURN = r"""
verified: {description: The claims that hold., type: list, returned: success}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.module import (
    CLUSTER_ARGUMENT,
    KEYFILE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    cluster_of,
    collection_specs,
    keyfile_credentials,
    login_credentials,
    run,
    tls_of,
)
from ansible.module_utils.shardmart.cluster.observe import verification
from ansible.module_utils.shardmart.cluster.protocol.connection import Credentials

ARGUMENTS = CLUSTER_ARGUMENT | {
    "database": {"type": "str", "required": True},
    "collections": {"type": "list", "elements": "dict", "required": True},
    "strangers": {"type": "list", "elements": "str"},
    "secrets": {"type": "path", "no_log": False},
}


def body(module):
    """Verify; fail with every claim that does not hold."""
    if module.check_mode:
        return {"changed": False, "verified": []}
    checks = verification.verify(
        cluster_of(module),
        module.params["database"],
        collection_specs(module.params["collections"]),
        administrator=login_credentials(module),
        members=keyfile_credentials(module),
        strangers=[
            Credentials(name, Path(module.params["secrets"]) / f"{name}.password", tls=tls_of(module))
            for name in module.params["strangers"] or ()
        ],
    )
    failed = [f"{check.claim}: {check.failure}" for check in checks if check.failure]
    if failed:
        module.fail_json(msg=f"{len(failed)} of {len(checks)} checks failed:\n" + "\n".join(failed))
    return {"changed": False, "verified": [check.claim for check in checks]}


def main():
    """Be the module."""
    run(
        ARGUMENTS | KEYFILE_ARGUMENTS | LOGIN_ARGUMENTS,
        body,
        required_by={"strangers": "secrets"},
    )


if __name__ == "__main__":
    main()
