#!/usr/bin/python
"""Ansible module: keep MongoDB users as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_users
short_description: Keep MongoDB users, their passwords, roles and privileges as declared
description:
  - Logs in as each user first; a login that works proves the password and changes nothing.
  - A user that is missing is created by the administrator, or by C(__system) with the keyfile; a wrong password,
    roles or privileges are repaired the same way.
  - A changed password is applied, an unchanged one is not "changed".
extends_documentation_fragment: [shardmart.keyfile, shardmart.login, shardmart.wait]
attributes:
  check_mode: {support: full, description: Says what would be changed.}
  diff_mode: {support: none, description: The changes are returned as lines instead; nothing secret is shown.}
options:
  addresses:
    description: Where users are kept, the first that is writable is taken. A router, or the config servers.
    type: list
    elements: str
    required: true
  users:
    description: The declared users, all of the C(admin) database.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      password_file:
        description: File with the password where the module runs. Default is C(NAME.password) in C(secrets).
        type: path
      roles: {description: "Roles as C({role, db}) documents.", type: list, elements: dict, default: []}
      privileges:
        description: "Privileges of a role with the user's own name that is kept with it."
        type: list
        elements: dict
        default: []
  secrets:
    description: Folder with the password files where the module runs.
    type: path
  drop_others_but:
    description:
      - Drop users that this module made and that are neither declared here nor named in this list. Without it nobody is
        dropped, and a user that somebody else made never is.
    type: list
    elements: str
author: Shardmart
"""

EXAMPLES = r"""
- name: Keep the first administrator
  mongodb_users:
    addresses: ["127.0.0.1:27101", "127.0.0.1:27102", "127.0.0.1:27103"]
    users:
      - name: admin
        password_file: .shardmart/secrets/admin.password
        roles: [{role: root, db: admin}]
    keyfile: .shardmart/secrets/keyfile
"""

RETURN = r"""
changes:
  description: What was changed, in order. Passwords are never shown.
  type: list
  returned: always
  sample: ["create user admin"]
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.converge import replica_set, users
from ansible.module_utils.shardmart.cluster.module import (
    KEYFILE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    WAIT_ARGUMENT,
    keyfile_credentials,
    login_credentials,
    run,
)

ARGUMENTS = {
    "addresses": {"type": "list", "elements": "str", "required": True},
    "users": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "password_file": {"type": "path", "no_log": False},
            "roles": {"type": "list", "elements": "dict", "default": []},
            "privileges": {"type": "list", "elements": "dict", "default": []},
        },
    },
    "secrets": {"type": "path", "no_log": False},
    "drop_others_but": {"type": "list", "elements": "str"},
}


def password_file(module, user):
    """Where the user's password is."""
    if user["password_file"]:
        return Path(user["password_file"])
    if not module.params["secrets"]:
        module.fail_json(
            msg=f"user {user['name']}: `password_file` is missing, and `secrets` names no folder to look in"
        )
    return Path(module.params["secrets"]) / f"{user['name']}.password"


def body(module):
    """Converge the users the arguments describe."""
    arguments = module.params
    keyfile, login = keyfile_credentials(module), login_credentials(module)
    administrators = users.Administrators(
        login=login if login.username else None, keyfile=keyfile if keyfile.keyfile else None
    )
    seconds = arguments["wait_seconds"]
    patience = min(2, seconds / len(arguments["addresses"]) / 2)
    primary = replica_set.primary_of(arguments["addresses"], keyfile, timeout_seconds=patience)
    address = primary or arguments["addresses"][0]
    return users.converge(
        [
            users.UserSpec(
                name=user["name"],
                password_file=password_file(module, user),
                roles=tuple(user["roles"]),
                privileges=tuple(user["privileges"]),
            )
            for user in arguments["users"]
        ],
        address,
        administrators,
        wait_seconds=seconds,
        check_mode=module.check_mode,
        drop_others_but=arguments["drop_others_but"],
    )


def main():
    """Be the module."""
    run(ARGUMENTS | KEYFILE_ARGUMENTS | LOGIN_ARGUMENTS | WAIT_ARGUMENT, body)


if __name__ == "__main__":
    main()
