#!/usr/bin/python
"""Ansible module: a kind cluster that this project made, there or not there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kind_cluster
short_description: Create or delete a kind cluster, and never touch somebody else's
description:
  - Creates the cluster if it is absent and writes its kubeconfig (mode 0600) to a file of its own, so that the user's
    own kubeconfig and context stay as they are.
  - It is there when its API answers. The nodes become ready meanwhile; whoever needs pods waits for them.
  - A cluster counts as ours when every node carries the label C(shardmart/made-by=site.yml), which the
    configuration file gives. One of the same name without it is refused.
  - A creation that was killed left a note beside the kubeconfig with the ids of the containers that it had made. The
    next run removes the unfinished cluster and begins anew if it consists of these and no others; a cluster of that
    name that somebody made since is refused.
  - C(forgotten) removes the kubeconfig of a cluster that somebody deleted (C(kind delete cluster)), so that nothing is
    asked of it any more; a cluster that is there keeps it.
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: none, description: A cluster is there or not.}
options:
  name: {description: Name of the cluster., type: str, required: true}
  state: {description: Whether it is there., type: str, choices: [present, absent, forgotten], default: present}
  config: {description: Configuration file of kind., type: path}
  image: {description: "Node image; default: kind's own.", type: str}
  pull:
    description: >-
      Whether kind may pull the image. Without it docker has to have the one that is named, or else exactly one node
      image, which is taken.
    type: bool
    default: true
  kubeconfig: {description: File to write the kubeconfig to., type: path, required: true}
  wait_seconds: {description: How long to wait for the API of a cluster that is there., type: int, default: 180}
author: Shardmart
"""

EXAMPLES = r"""
- name: Create the cluster
  kind_cluster:
    name: shardmart
    config: k8s/kind/cluster.yaml
    kubeconfig: .shardmart/kubeconfig
"""

RETURN = r"""
nodes: {description: Names of the nodes., type: list, returned: when present}
"""

import contextlib
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.cluster.host.files import write_whole
from ansible.module_utils.shardmart.platforms.kubernetes_commands import Commands

LABEL = "shardmart/made-by=site.yml"
KIND_LABEL = "io.x-k8s.kind.cluster"
"""Label of kind's containers; its value is the cluster's name."""
NODE_IMAGE = re.compile(r"(^|/)(kindest/node|[^/]*kind-node):(?!<none>)")
NOTE_SECONDS = 0.2
"""A container is noted within about this time."""


def main():
    """Bring the cluster to the wished state."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "forgotten"], "default": "present"},
            "config": {"type": "path"},
            "image": {"type": "str"},
            "pull": {"type": "bool", "default": True},
            "kubeconfig": {"type": "path", "required": True},
            "wait_seconds": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["config"])],
    )
    for program, why in (
        ("docker", "https://docs.docker.com"),
        ("kind", "https://kind.sigs.k8s.io"),
        ("kubectl", "https://kubernetes.io/docs/tasks/tools"),
    ):
        if not module.get_bin_path(program):
            module.fail_json(msg=f"{program} is not on PATH: install it ({why})")
    name = module.params["name"]
    kubeconfig = Path(module.params["kubeconfig"])
    exists = name in clusters(module)
    if module.params["state"] == "forgotten":
        gone = not exists and kubeconfig.exists()
        if gone and not module.check_mode:
            kubeconfig.unlink()
        module.exit_json(changed=gone)
    begun = kubeconfig.with_name(f"{kubeconfig.name}.{name}-begun")
    unfinished = exists and made_by_a_killed_run(module, name, begun)
    wanted = refuse_foreign(module, name) if exists and not unfinished else None
    if module.params["state"] == "absent":
        if exists and not module.check_mode:
            delete(module, name, kubeconfig)
        if not module.check_mode:
            begun.unlink(missing_ok=True)
        module.exit_json(changed=exists)
    if exists and not unfinished:
        changed = keep_kubeconfig(module, wanted, kubeconfig)
        module.exit_json(changed=changed, nodes=nodes(module, name))
    image = module.params["image"] if module.params["pull"] else image_that_is_here(module)
    if module.check_mode:
        module.exit_json(changed=True, nodes=[])
    kubeconfig.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if unfinished:
        delete(module, name, kubeconfig)
    kubeconfig.unlink(missing_ok=True)
    command = ["kind", "create", "cluster", "--name", name, "--config", module.params["config"]]
    command += ["--image", image] if image else []
    command += ["--kubeconfig", str(kubeconfig)]
    create(module, name, command, begun)
    kubeconfig.chmod(0o600)
    module.exit_json(changed=True, nodes=nodes(module, name))


def image_that_is_here(module):
    """The node image that docker has: the one that is named, else the only one; fails in one line for none."""
    named = module.params["image"]
    if named and not module.run_command(["docker", "image", "inspect", named])[0]:
        return named
    images = run(module, ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"])[0].split()
    here = sorted({image for image in images if NODE_IMAGE.search(image)})
    if not named and len(here) == 1:
        return here[0]
    wrong = f"docker has no image {named}" if named else "no image of kind's nodes is named"
    return module.fail_json(
        msg=f"{wrong}, and nothing is pulled with this inventory: have one in docker (docker load, or docker pull "
        "kindest/node:TAG where a registry can be reached) and name it, export KIND_NODE_IMAGE=NAME:TAG; docker has "
        f"{', '.join(here) or 'none'}"
    )


def create(module, name, command, begun):
    """Run kind, and note meanwhile which containers it makes; the note goes when they are a cluster, or are gone."""
    write_whole(begun, "[]")
    with tempfile.TemporaryFile("w+") as said:
        creating = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)  # noqa: S603
        seen = []
        while True:
            code = creating.poll()
            if (now := containers(module, name)) != seen:
                seen = now
                write_whole(begun, json.dumps(seen))
            if code is not None:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                creating.wait(NOTE_SECONDS)
        said.seek(0)
        words = " ".join(said.read().split())[-600:]
    if not code or not seen:  # kind removes what it made when it fails; what is left is removed by the next run
        begun.unlink()
    if code:
        module.fail_json(msg=f"kind create cluster failed: {words}")


def containers(module, name):
    """Ids of the containers of the cluster's nodes."""
    command = ["docker", "ps", "--all", "--no-trunc", "--quiet", f"--filter=label={KIND_LABEL}={name}"]
    return sorted(run(module, command)[0].split())


def made_by_a_killed_run(module, name, begun):
    """Whether a creation of ours was killed, and the cluster consists of what it made; a note of another is dropped."""
    if not begun.exists():
        return False
    try:
        noted = set(json.loads(begun.read_text()))
    except (ValueError, TypeError):
        noted = set()  # by an earlier version, which did not know what it had made
    if noted.issuperset(containers(module, name)):
        return True
    if not module.check_mode:
        begun.unlink()
    return False


def delete(module, name, kubeconfig):
    """Delete the cluster and its kubeconfig."""
    run(module, ["kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)])
    kubeconfig.unlink(missing_ok=True)


def clusters(module):
    """Names of the kind clusters of this machine."""
    return run(module, ["kind", "get", "clusters"])[0].split()


def nodes(module, name):
    """Names of the cluster's nodes."""
    return sorted(run(module, ["kind", "get", "nodes", "--name", name])[0].split())


def refuse_foreign(module, name):
    """The cluster's kubeconfig; fails unless every node carries our label."""
    kubeconfig = run(module, ["kind", "get", "kubeconfig", "--name", name])[0]
    commands = Commands("/dev/stdin", f"kind-{name}")
    command = commands.kubectl("get", "nodes", "-o", "json", "--request-timeout=20s")
    deadline = time.monotonic() + module.params["wait_seconds"]
    while True:
        done = commands.run(command, kubeconfig)
        # A node that was just started refuses or forbids everything until its API server has read its rules.
        if (
            not done.returncode
            or time.monotonic() > deadline
            or not all(is_running(module, node) for node in nodes(module, name))
        ):
            break
        time.sleep(1)
    if done.returncode:
        module.fail_json(
            msg=f"kind cluster {name} exists and its API does not answer, so whose it is cannot be said: start its "
            f"containers (docker start {' '.join(nodes(module, name))}), or remove it with "
            f"`kind delete cluster --name {name}` ({''.join(done.stderr.strip().splitlines()[-1:])})"
        )
    key, value = LABEL.split("=")
    if any(node["metadata"]["labels"].get(key) != value for node in json.loads(done.stdout)["items"]):
        module.fail_json(
            msg=f"kind cluster {name} exists and was not made by this project (no label {LABEL} on every node): "
            "give the topology another `name`, or delete that cluster yourself"
        )
    return kubeconfig


def is_running(module, node):
    """Whether the node's container runs."""
    return run(module, ["docker", "inspect", "--format", "{{.State.Running}}", node])[0].strip() == "true"


def keep_kubeconfig(module, wanted, path):
    """Write the kubeconfig when it is missing or of an earlier cluster; whether that was needed."""
    if path.exists() and path.read_text().strip() == wanted.strip():
        return False
    if not module.check_mode:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, wanted)
    return True


def run(module, command):
    """Run a command; a failure ends the module with the last lines of what the command said."""
    code, out, error = module.run_command(command)
    if code:
        module.fail_json(msg=f"{' '.join(command[:3])} failed: {' '.join((error or out).split())[-600:]}")
    return out, error


if __name__ == "__main__":
    main()
