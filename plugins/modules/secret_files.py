#!/usr/bin/python
"""Ansible module: generated secrets in files only their owner can read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_files
short_description: Generate secrets once, in files of mode 0600
description:
  - Makes the folder with mode 0700 and every file that is missing with a random secret; never changes, prints or
    returns a secret that is there. Modes of files that others could read are repaired, that of the folder only inside a
    state folder of ours (M(state_folder)); elsewhere one in which others may write is refused.
attributes:
  check_mode: {support: full, description: Says which files would be made.}
  diff_mode: {support: none, description: Secrets are not shown.}
options:
  folder:
    description: The folder of the secrets.
    type: path
    required: true
  keyfiles:
    description: Names of files with 1,008 random base64 characters, as a MongoDB keyfile (6 to 1,024 of them).
    type: list
    elements: str
    default: []
  passwords:
    description: Names of files with a password of 32 random letters and digits.
    type: list
    elements: str
    default: []
author: Shardmart
"""

EXAMPLES = r"""
- name: Generate the secrets
  secret_files:
    folder: .shardmart/secrets
    keyfiles: [keyfile]
    passwords: [admin.password]
"""

RETURN = r"""
changes: {description: Files made and modes repaired., type: list, returned: always}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.cluster.host import generated, ownership
from ansible.module_utils.shardmart.cluster.host.files import write_whole


def private_folder(module, folder):
    """Have the folder closed to others; what was changed. The mode of a folder that is not ours stays as it is."""
    mode = folder.stat().st_mode if folder.exists() else None
    if mode is None:
        for path in (folder.parent, folder):
            if not path.exists() and not module.check_mode:
                path.mkdir(mode=0o700, parents=True)
        return [f"make {folder}"]
    if not mode & 0o077:
        return []
    if not ownership.is_ours(folder.parent):
        if mode & 0o022:
            module.fail_json(
                msg=f"{folder} may be written by other users, who could replace the secrets: chmod go-w it"
            )
        return []
    if not module.check_mode:
        folder.chmod(0o700)
    return [f"{folder}: mode 0700"]


def main():
    """Make what is missing, repair what others can read."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "keyfiles": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "passwords": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    changes = []
    try:
        changes += private_folder(module, folder)
        for make, names in (
            (generated.keyfile, module.params["keyfiles"]),
            (generated.password, module.params["passwords"]),
        ):
            for name in names:
                path = folder / name
                if not path.exists():
                    changes.append(f"generate {name}")
                    if not module.check_mode:
                        write_whole(path, make() + "\n")
                elif path.stat().st_mode & 0o077:
                    changes.append(f"{name}: mode 0600")
                    if not module.check_mode:
                        path.chmod(0o600)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
