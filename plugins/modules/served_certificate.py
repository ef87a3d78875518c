#!/usr/bin/python
"""Ansible module: servers serve the certificate that is on their disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: served_certificate
short_description: Have running servers serve a new certificate without a restart
description:
  - Looks in a TLS handshake which certificate each server serves, and where it is another one, runs
    C(rotateCertificates) until it is served. Connections that are open stay open.
  - Members are connected to with the keyfile, routers as the user.
extends_documentation_fragment: [shardmart.keyfile, shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says which servers would rotate.}
  diff_mode: {support: none, description: The changes are returned as lines instead.}
options:
  addresses:
    description: The servers, C(host:port).
    type: list
    elements: str
    required: true
  fingerprint:
    description: SHA-256 of the certificate that is to be served, hexadecimal.
    type: str
  certificate:
    description: File with that certificate (PEM), instead of its fingerprint.
    type: path
author: Shardmart
"""

EXAMPLES = r"""
- name: Serve the new certificate
  served_certificate:
    addresses: ["127.0.0.1:27201", "127.0.0.1:27202"]
    fingerprint: "{{ certificates_kept.fingerprint }}"
    keyfile: .shardmart/secrets/keyfile
    tls: {ca_file: .shardmart/tls/ca.pem}
"""

RETURN = r"""
changes: {description: Servers that rotated., type: list, returned: always}
"""

from ansible.module_utils.shardmart.cluster.converge import rotation
from ansible.module_utils.shardmart.cluster.errors import ClusterError
from ansible.module_utils.shardmart.cluster.module import (
    KEYFILE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    WAIT_ARGUMENT,
    keyfile_credentials,
    login_credentials,
    run,
)
from ansible.module_utils.shardmart.cluster.protocol import connection

ARGUMENTS = {
    "addresses": {"type": "list", "elements": "str", "required": True},
    "fingerprint": {"type": "str"},
    "certificate": {"type": "path"},
}


def body(module):
    """Rotate where another certificate is served."""
    arguments = module.params
    credentials = keyfile_credentials(module) if arguments["keyfile"] else login_credentials(module)
    if credentials.tls is None:
        raise ClusterError("`tls` is missing: a server without TLS serves no certificate")
    deadline = connection.Deadline(arguments["wait_seconds"])
    fingerprint = arguments["fingerprint"] or rotation.fingerprint_of(arguments["certificate"])
    return rotation.converge(arguments["addresses"], fingerprint, credentials, deadline, check_mode=module.check_mode)


def main():
    """Be the module."""
    run(
        ARGUMENTS | KEYFILE_ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT,
        body,
        required_one_of=[("fingerprint", "certificate")],
        mutually_exclusive=[("fingerprint", "certificate")],
    )


if __name__ == "__main__":
    main()
