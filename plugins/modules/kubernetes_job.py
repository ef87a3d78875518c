#!/usr/bin/python
"""Ansible module: run a Kubernetes Job to its end. The action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_job
short_description: Run a Kubernetes Job to its end, showing what it says
description:
  - Replaces a Job of the same name, shows the lines of its log while it runs, and fails with the last of them, and with
    what Kubernetes says of the pod, when the Job fails or does not end in time.
  - Runs where Ansible runs, with C(kubectl). Always reports a change, because a Job ran.
attributes:
  check_mode: {support: full, description: Runs nothing.}
  diff_mode: {support: none, description: A Job ran or not.}
options:
  definition: {description: "The Job, as a mapping with a name and a namespace.", type: dict, required: true}
  kubeconfig: {description: The kubeconfig to use., type: path, required: true}
  context: {description: Its context; the current one when it is not given., type: str}
  wait_seconds: {description: How long the Job may take., type: int, default: 600}
author: Shardmart
"""

EXAMPLES = r"""
- name: Load the data
  kubernetes_job:
    definition: "{{ lookup('template', 'job.yaml') | from_yaml }}"
    kubeconfig: .shardmart/kubeconfig
    context: kind-shardmart
"""

RETURN = r"""
lines: {description: What the Job wrote., type: list, returned: always}
"""
