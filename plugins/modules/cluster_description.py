#!/usr/bin/python
"""Ansible module: cluster.json, which says to every command of this project what the cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_description
short_description: Keep the description of the cluster in the state folder
description:
  - Writes C(cluster.json), mode 0600, when it is missing or says something else. The order of keys and white space do
    not count.
  - The last step of provisioning, so that it goes on telling what runs when something was refused before. In check
    mode it is the first, too.
  - Fails, and names the key of the topology, when the file describes this same cluster with what cannot change while
    there is data, addresses of members and names of sets; and when TLS is switched on or off for servers of this
    machine that run, or for the PostgreSQL and the cache of a shop that runs.
  - Fails, and names the folder and what lies there, when it holds another cluster.
attributes:
  check_mode: {support: full, description: Says whether it would be written.}
  diff_mode: {support: full, description: Shows the change.}
options:
  cluster: {description: The cluster as the inventory describes it., type: dict, required: true}
  path: {description: The file., type: path, required: true}
  moves_store:
    description: Whether the shop's store is moved to where the topology says, which else is refused.
    type: bool
    default: false
  only_shop:
    description:
      - Whether the file is told of the shop alone, by a playbook that plays no more of the topology. What it says of
        everything else stays, and without a file there is nothing to tell.
    type: bool
    default: false
author: Shardmart
"""

EXAMPLES = r"""
- name: Describe the cluster for the shardmart command
  cluster_description:
    cluster: "{{ cluster }}"
    path: .shardmart/cluster.json
"""

RETURN = r"""
"""

import json
from dataclasses import replace
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.cluster import description
from ansible.module_utils.shardmart.cluster.converge import unchangeable
from ansible.module_utils.shardmart.cluster.errors import ClusterError
from ansible.module_utils.shardmart.cluster.host import occupant
from ansible.module_utils.shardmart.cluster.host.files import write_whole
from ansible.module_utils.shardmart.platforms import embedded
from ansible.module_utils.shardmart.platforms.embedded_shop import converge as shop
from ansible.module_utils.shardmart.platforms.platform import PlatformError


def main():
    """Compare, then write or not."""
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "dict", "required": True},
            "path": {"type": "path", "required": True},
            "moves_store": {"type": "bool", "default": False},
            "only_shop": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        cluster = description.parse(module.params["cluster"])
    except description.DescriptionError as error:
        module.fail_json(msg=str(error))
    file = Path(module.params["path"])
    header = {"before_header": str(file), "after_header": str(file)}
    try:
        occupant.refuse_another(file.parent, cluster)
        before = file.read_text() if file.exists() else ""
        there = known(before)
        if there and module.params["only_shop"]:
            cluster = replace(there, shop=cluster.shop)
        if there:
            unchangeable.refuse_changes(there, cluster, moves_store=module.params["moves_store"])
            shop.refuse_switched_tls(there, cluster, file.parent)
        embedded.refuse_other_tls(cluster, file.parent)
        embedded.refuse_missing_packages(cluster)
        after = cluster.dumps()
        if says(before) == json.loads(after) or (module.params["only_shop"] and not there):
            module.exit_json(changed=False)
        if not module.check_mode:
            write_whole(file, after)
    except OSError as error:
        module.fail_json(msg=f"{file}: {error.strerror}")
    except (ClusterError, PlatformError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, diff=header | {"before": before, "after": after})


def known(text):
    """The cluster that a file describes; None when there is none, or it cannot be understood."""
    try:
        return description.parse(says(text))
    except (description.DescriptionError, TypeError):
        return None


def says(text):
    """The content of a description; None when there is none, or it cannot be read."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


if __name__ == "__main__":
    main()
