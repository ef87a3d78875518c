#!/usr/bin/python
"""Ansible module: an authority of the cluster's own and a server certificate that does not run out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: Keep a certificate authority and the server certificate it signs
description:
  - Makes C(ca.pem) and C(ca-key.pem) once, and C(server.pem) (key and certificate in one file, as mongod reads it) when
    it is missing, ends within C(renew_days), lacks one of C(names), has another key or is of another authority.
  - Files are of mode 0600 in a folder of mode 0700; C(ca.pem) alone may be read by all. Modes are repaired, that of a
    folder that was there only inside a state folder of ours (M(state_folder)).
  - A run that was killed between the authority's key and its certificate is finished with the same key.
  - C(ca.pem) and C(server.pem) of another authority, without C(ca-key.pem), are taken as they are; when a new server
    certificate is due, the module fails and says so.
attributes:
  check_mode: {support: full, description: Says what would be made and why.}
  diff_mode: {support: full, description: "Shows fingerprint, end and names; keys are not shown."}
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
ends: {description: "When it ends, UTC.", type: str, returned: when there is one}
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.shardmart.cluster.host import ownership
from ansible.module_utils.shardmart.cluster.host.files import write_whole

try:
    from ansible.module_utils.shardmart.cluster.host import certificates

    CRYPTOGRAPHY = True
except ImportError:
    CRYPTOGRAPHY = False

WARN_DAYS = 180
"""An authority's end is announced this early: every client has to be given the next one."""


class UnsignedError(Exception):
    """A server certificate is due and nobody can sign it."""


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
    folder = Path(module.params["folder"])
    try:
        changes = keep_folder(folder, check_mode=module.check_mode)
        made, before, after = keep(module, folder)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    except (UnsignedError, ValueError, TypeError) as error:
        module.fail_json(msg=f"{folder}: {error}")
    changes += made
    diff = {"before": before or {}, "after": after or {}}
    module.exit_json(changed=bool(changes), changes=changes, diff=diff, **(after or {}))


def keep_folder(folder, check_mode):
    """The folder and its files, readable by their owner only."""
    changes = []
    for path in (folder.parent, folder):
        if not path.exists():
            changes.append(f"make {path}")
            if not check_mode:
                path.mkdir(mode=0o700, parents=True)
    ours = [(folder, 0o700)] if ownership.is_ours(folder.parent) else []
    for path, mode in (*ours, (folder / "ca-key.pem", 0o600), (folder / "server.pem", 0o600)):
        if path.exists() and path.stat().st_mode & 0o777 & ~mode:
            changes.append(f"{path.name}: mode {mode:04o}")
            if not check_mode:
                path.chmod(mode)
    return changes


def keep(module, folder):
    """Converge the files; what was changed, and the server certificate before and after as may be shown."""
    authority_file, key_file, server_file = folder / "ca.pem", folder / "ca-key.pem", folder / "server.pem"
    changes = []
    if authority_file.exists():
        key = key_file.read_bytes() if key_file.exists() else b""
        authority = certificates.Pair(authority_file.read_bytes(), key)
    elif server_file.exists():
        raise UnsignedError("ca.pem is missing and server.pem is there: put it back, or remove them all")
    else:
        # A key alone is what a run left that was killed before the certificate was written; nobody trusts it yet.
        key = key_file.read_bytes() if key_file.exists() else None
        changes.append("made the authority's certificate, its key was there" if key else "made an authority")
        authority = certificates.make_authority(module.params["cluster"], key=key)
        if not module.check_mode:
            if not key:
                write_whole(key_file, authority.key)
            write_whole(authority_file, authority.certificate, mode=0o644)
    if (left := certificates.days_left(authority.certificate)) < WARN_DAYS:
        module.warn(f"the authority {authority_file} ends in {left} days, and every certificate with it")
    names = module.params["names"]
    current = server_file.read_bytes() if server_file.exists() else None
    before = described(current)
    if module.params["renew"]:
        why = "it was asked for"
    elif current is None:
        why = "there was none"
    else:
        why = certificates.why_renew(current, authority.certificate, names, module.params["renew_days"])
    if why:
        if not authority.key:
            raise UnsignedError(
                f"server.pem has to be made anew ({why}) and no ca-key.pem is there to sign it: put a new one there"
            )
        changes.append(f"made a server certificate: {why}")
        current = certificates.make_server_certificate(authority, names, module.params["validity_days"]).combined
        if not module.check_mode:
            write_whole(server_file, current)
    return changes, before, described(current)


def described(certificate):
    """Fingerprint, end and names; None when there is no certificate or it cannot be read."""
    try:
        return asdict(certificates.describe(certificate)) if certificate else None
    except ValueError:
        return None


if __name__ == "__main__":
    main()
