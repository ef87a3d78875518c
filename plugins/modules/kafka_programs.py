#!/usr/bin/python
"""Ansible module: Kafka's programs on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kafka_programs
short_description: Have Kafka's jars, as they are pinned
description:
  - Fetches them by Maven, from wherever this machine's settings of Maven say, and compares each with its SHA-256.
  - Says in one line what is missing where Java or Maven is.
attributes:
  check_mode: {support: full, description: Fetches nothing.}
  diff_mode: {support: none, description: There is nothing to show.}
options:
  cache: {description: Folder for what is fetched., type: path, required: true}
  runs_here: {description: "They are to run on this machine, which then needs Java.", type: bool, default: true}
author: Shardmart
"""

EXAMPLES = r"""
- name: Have Kafka's programs
  kafka_programs:
    cache: .shardmart/binaries
"""

RETURN = r"""
jars: {description: Folder with the jars., type: str, returned: always}
java: {description: Path of Java., type: str, returned: with runs_here}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.module import run
from ansible.module_utils.shardmart.platforms.embedded_kafka import programs

ARGUMENTS = {"cache": {"type": "path", "required": True}, "runs_here": {"type": "bool", "default": True}}


def body(module):
    """Fetch what is not there."""
    java = {"java": programs.java()} if module.params["runs_here"] else {}
    found = programs.fetch(Path(module.params["cache"]), check_mode=module.check_mode)
    return {"changed": found.fetched, "jars": str(found.folder), **java}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
