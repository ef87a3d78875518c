#!/usr/bin/python
"""Ansible module: the balancer, on or off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: balancer
short_description: Switch the balancer on or off
description:
  - Fails when the cluster does not answer; an error of the server is never swallowed.
extends_documentation_fragment: [shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says whether it would be switched.}
  diff_mode: {support: full, description: Shows the balancer before and after.}
options:
  router:
    description: Address of a router, "host:port".
    type: str
    required: true
  enabled:
    description: Whether the balancer runs.
    type: bool
    default: true
author: Shardmart
"""

EXAMPLES = r"""
- name: Switch the balancer on
  balancer:
    router: 127.0.0.1:27017
    login_password_file: .shardmart/secrets/admin.password
"""

RETURN = r"""
changes:
  description: What was changed.
  type: list
  returned: always
  sample: [balancer on]
"""

from ansible.module_utils.shardmart.cluster.converge import sharding
from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import LOGIN_ARGUMENTS, WAIT_ARGUMENT, login_credentials, run
from ansible.module_utils.shardmart.cluster.protocol import connection

ARGUMENTS = {"router": {"type": "str", "required": True}, "enabled": {"type": "bool", "default": True}}


def body(module):
    """Converge the balancer."""
    arguments = module.params
    credentials = login_credentials(module)
    if module.check_mode and not sharding.answers(arguments["router"], credentials):
        return Outcome()
    deadline = connection.Deadline(arguments["wait_seconds"])
    sharding.wait_for_router(arguments["router"], credentials, deadline)
    with connection.connect(arguments["router"], credentials) as client:
        return sharding.converge_balancer(client, deadline, enabled=arguments["enabled"], check_mode=module.check_mode)


def main():
    """Be the module."""
    run(ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
