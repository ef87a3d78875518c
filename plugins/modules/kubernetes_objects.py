#!/usr/bin/python
"""Ansible module: objects of exactly one Kubernetes, as declared or not there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_objects
short_description: Keep objects in Kubernetes as declared, or remove them
description:
  - Compares on the API server (C(kubectl diff)) and applies (C(kubectl apply --server-side)) only what differs, so
    C(changed) is the truth and what somebody edited is put back. Secrets leave no copy in an annotation, and go through
    standard input.
  - Uses the kubeconfig and context given and no other, whatever K8S_AUTH_*, HELM_KUBE* or KUBECONFIG say in the
    environment. The modules of kubernetes.core take from it what is not given.
attributes:
  check_mode: {support: full, description: Says what would be changed; a missing namespace counts as a change.}
  diff_mode: {support: full, description: The difference that Kubernetes sees; Secrets are masked.}
options:
  kubeconfig: {description: The kubeconfig to use., type: path, required: true}
  context: {description: Its context; the current one when it is not given., type: str}
  state: {description: Whether the objects are there., type: str, choices: [present, absent], default: present}
  definitions: {description: "present: the objects.", type: list, elements: dict}
  only_ours:
    description: "present: a label, C(KEY=VALUE). An object that is there without it is not ours and stays as it is."
    type: str
  resources: {description: "absent: the kinds, as kubectl names them.", type: list, elements: str}
  selector: {description: "absent: labels of the objects.", type: str}
  names: {description: "absent: names of the objects, instead of C(selector).", type: list, elements: str}
  namespace: {description: "absent: their namespace.", type: str}
  wait_seconds: {description: How long a command may take., type: int, default: 180}
author: Shardmart
"""

EXAMPLES = r"""
- name: Make the namespace
  kubernetes_objects:
    kubeconfig: .shardmart/kubeconfig
    context: kind-shardmart
    definitions:
      - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
"""

RETURN = r"""
objects: {description: What was or would be changed., type: list, returned: always, sample: [namespace/shop]}
"""

import json
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.platforms.kubernetes_commands import Commands


class Kubectl:
    """kubectl, whose failures end the module in one line."""

    def __init__(self, module):
        self.module = module
        self.commands = Commands(module.params["kubeconfig"], module.params["context"])

    def run(self, *words, data=None, accept=(0,), unless=None):
        """Exit code and output; a code that is not accepted ends the module, unless the command said that."""
        seconds = self.module.params["wait_seconds"]
        try:
            done = self.commands.run(self.commands.kubectl(*words), data, timeout_s=seconds)
        except FileNotFoundError:
            self.module.fail_json(msg="kubectl is not on PATH: install it (https://kubernetes.io/docs/tasks/tools)")
        except subprocess.TimeoutExpired:
            self.module.fail_json(msg=f"kubectl {words[0]} did not end in {seconds} s")
        if done.returncode not in accept and not (unless and unless in done.stderr):
            self.module.fail_json(msg=f"kubectl {words[0]} failed: {' '.join(done.stderr.split())[-600:]}")
        return done.returncode, done.stdout


def present(module, kubectl):
    """Apply what differs."""
    definitions = [one for one in module.params["definitions"] if not is_somebody_elses(kubectl, one)]
    changed, difference = [], ""
    for one in definitions:
        text = json.dumps(one)
        server_side = ("--server-side", "--force-conflicts", "--field-manager=shardmart", "-f", "-")
        # An object whose namespace is not there yet cannot be compared.
        code, out = kubectl.run("diff", *server_side, data=text, accept=(0, 1), unless="NotFound")
        if code:
            changed.append(f"{one['kind'].lower()}/{one['metadata']['name']}")
            difference += out
            if not module.check_mode:
                kubectl.run("apply", *server_side, data=text)
    module.exit_json(changed=bool(changed), objects=changed, diff={"prepared": difference})


def is_somebody_elses(kubectl, definition):
    """Whether the object is there and lacks the label of ours."""
    label = kubectl.module.params["only_ours"]
    if not label:
        return False
    found = kubectl.run("get", "--ignore-not-found", "-o", "json", "-f", "-", data=json.dumps(definition))[1]
    key, _, value = label.partition("=")
    return bool(found.strip()) and json.loads(found)["metadata"].get("labels", {}).get(key) != value


def absent(module, kubectl):
    """Remove what is there."""
    arguments = module.params
    which = [f"--selector={arguments['selector']}"] if arguments["selector"] else arguments["names"]
    place = [f"--namespace={arguments['namespace']}"] if arguments["namespace"] else []
    changed = []
    for resource in arguments["resources"]:
        found = kubectl.run("get", resource, *which, *place, "--ignore-not-found", "-o", "name")[1].split()
        changed += found
        if found and not module.check_mode:
            kubectl.run("delete", resource, *which, *place, "--ignore-not-found", "--wait")
    module.exit_json(changed=bool(changed), objects=changed)


def main():
    """Be the module."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "context": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definitions": {"type": "list", "elements": "dict"},
            "only_ours": {"type": "str"},
            "resources": {"type": "list", "elements": "str"},
            "selector": {"type": "str"},
            "names": {"type": "list", "elements": "str"},
            "namespace": {"type": "str"},
            "wait_seconds": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
        required_if=[
            ("state", "present", ["definitions"]),
            ("state", "absent", ["resources"]),
            ("state", "absent", ["selector", "names"], True),
        ],
        mutually_exclusive=[("selector", "names")],
    )
    if module.params["state"] == "absent" and not Path(module.params["kubeconfig"]).exists():
        module.exit_json(changed=False, objects=[])  # the cluster went with it
    {"present": present, "absent": absent}[module.params["state"]](module, Kubectl(module))


if __name__ == "__main__":
    main()
