#!/usr/bin/python
"""Ansible module: an authority of the cluster's own and a server certificate that does not run out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: Keep a certificate authority and the server certificate it signs
description:
  - Makes C(ca.pem) and C(ca-key.pem) once, and C(server.pem) (key and certificate in one file, as mongod reads it) when
    it is missing, ends within C(renew_days), lacks one of C(names) or is of another authority.
  - Files are of mode 0600 in a folder of mode 0700; C(ca.pem) alone may be read by all.
attributes:
  check_mode: {support: full, description: Says what would be made and why.}
  diff_mode: {support: none, description: Keys are not shown.}
options:
  folder: {description: The folder of the files., type: path, required: true}
  cluster: {description: Name in the authority's subject., type: str, required: true}
  names: {description: DNS names and IP addresses of the servers., type: list, elements: str, required: true}
  validity_days: {description: A server certificate is good for this long., type: int, default: 90}
  renew_days: {description: It is made anew this long before its end., type: int, default: 30}
  renew: {description: Make the server certificate anew in any case., type: bool, default: false}
requirements: [cryptography]
author: Shardmart
"""

EXAMPLES = r"""
- name: Keep the certificates
  certificates:
    folder: .shardmart/tls
    cluster: shardmart
    names: [localhost, 127.0.0.1]
"""

RETURN = r"""
changes: {description: What was made and why., type: list, returned: always}
fingerprint: {description: SHA-256 of the server certificate., type: str, returned: when there is one}
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ansible.module_utils.cluster import certificates

    CRYPTOGRAPHY = True
except ImportError:
    CRYPTOGRAPHY = False


def main():
    """Make what is missing or about to end."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "cluster": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "validity_days": {"type": "int", "default": 90},
            "renew_days": {"type": "int", "default": 30},
            "renew": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if not CRYPTOGRAPHY:
        module.fail_json(msg=missing_required_lib("cryptography"))
    try:
        changes, fingerprint = keep(module)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=bool(changes), changes=changes, fingerprint=fingerprint)


def keep(module):
    """Converge the folder; what was changed, and the fingerprint of the server certificate."""
    folder = Path(module.params["folder"])
    authority_file, key_file, server_file = folder / "ca.pem", folder / "ca-key.pem", folder / "server.pem"
    changes = []
    if not module.check_mode:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if authority_file.exists() and key_file.exists():
        authority = certificates.Pair(authority_file.read_bytes(), key_file.read_bytes())
    else:
        changes.append("made an authority")
        authority = certificates.make_authority(module.params["cluster"])
        if not module.check_mode:
            write(key_file, authority.key, 0o600)
            write(authority_file, authority.certificate, 0o644)
    names = module.params["names"]
    current = server_file.read_bytes() if server_file.exists() else None
    if module.params["renew"]:
        why = "it was asked for"
    elif current is None:
        why = "there was none"
    else:
        why = certificates.why_renew(current, authority.certificate, names, module.params["renew_days"])
    if why:
        changes.append(f"made a server certificate: {why}")
        if not module.check_mode:
            current = certificates.make_server_certificate(authority, names, module.params["validity_days"]).combined
            write(server_file, current, 0o600)
    return changes, certificates.fingerprint(current) if current else None


def write(path, content, mode):
    """Write the file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    partial.rename(path)


if __name__ == "__main__":
    main()
