#!/usr/bin/python
"""Ansible module: one command of kubectl on exactly one Kubernetes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubectl
short_description: Run a command of kubectl
description:
  - For what is not an object to keep (M(kubernetes_objects) is for those), such as waiting for a rollout. A task says
    itself what has changed.
  - Uses the kubeconfig and context given and no other, whatever the environment says.
attributes:
  check_mode: {support: none, description: "Skipped, unless the task sets C(check_mode: false)."}
  diff_mode: {support: none, description: A command ran.}
options:
  arguments: {description: The words after C(kubectl)., type: list, elements: str, required: true}
  kubeconfig: {description: The kubeconfig to use., type: path, required: true}
  context: {description: Its context; the current one when it is not given., type: str}
  namespace: {description: The namespace., type: str}
  wait_seconds: {description: How long it may take., type: int, default: 600}
author: Shardmart
"""

EXAMPLES = r"""
- name: Wait for the toolbox
  kubectl:
    arguments: [rollout, status, deployment/shardmart-toolbox, --timeout=60s]
    kubeconfig: .shardmart/kubeconfig
    context: kind-shardmart
    namespace: shardmart
  changed_when: false
"""

RETURN = r"""
stdout: {description: What it wrote., type: str, returned: always}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.platforms.kubernetes_commands import Commands


def main():
    """Run it, or fail with what it said."""
    module = AnsibleModule(
        argument_spec={
            "arguments": {"type": "list", "elements": "str", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "context": {"type": "str"},
            "namespace": {"type": "str"},
            "wait_seconds": {"type": "int", "default": 600},
        },
        supports_check_mode=False,
    )
    arguments = module.params
    commands = Commands(arguments["kubeconfig"], arguments["context"])
    place = [f"--namespace={arguments['namespace']}"] if arguments["namespace"] else []
    what = f"kubectl {' '.join(arguments['arguments'][:3])}"
    try:
        done = commands.run(commands.kubectl(*place, *arguments["arguments"]), timeout_s=arguments["wait_seconds"])
    except FileNotFoundError:
        module.fail_json(msg="kubectl is not on PATH: install it (https://kubernetes.io/docs/tasks/tools)")
    except subprocess.TimeoutExpired:
        module.fail_json(msg=f"{what} did not end in {arguments['wait_seconds']} s")
    if done.returncode:
        module.fail_json(
            msg=f"{what} failed: {' '.join((done.stderr or done.stdout).split())[-600:]}", rc=done.returncode
        )
    module.exit_json(changed=True, rc=0, stdout=done.stdout)


if __name__ == "__main__":
    main()
