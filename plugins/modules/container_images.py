#!/usr/bin/python
"""Ansible module: container images, built from this checkout and there where a cluster takes them from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_images
short_description: Build images, and load them into a kind cluster or push them
description:
  - Builds each image (the engine's layer cache makes that cheap when nothing changed), tags it with the first
    characters of its digest, and loads it into the nodes that do not have exactly this digest, or pushes it to a
    registry that does not have this tag.
  - The tag changes when the content does, so what uses it rolls, and only then.
attributes:
  check_mode:
    support: partial
    description: Builds, because only a digest says what is lacking; tags, removes and delivers nothing.
  diff_mode: {support: none, description: Images have no readable difference.}
options:
  kind_cluster: {description: "Name of a kind cluster whose nodes get them.", type: str}
  push: {description: Push them to the registry that their names say., type: bool, default: false}
  context: {description: Folder that is sent to the engine., type: path, required: true}
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Repository., type: str, required: true}
      dockerfile: {description: Dockerfile relative to C(context)., type: str, required: true}
      context: {description: Another folder to send for this image alone., type: path}
  build_arguments: {description: More arguments of docker build., type: list, elements: str, default: []}
  prune: {description: Remove earlier tags of these repositories here., type: bool, default: true}
author: Shardmart
"""

EXAMPLES = r"""
- name: Have the images on the nodes
  container_images:
    kind_cluster: shardmart
    context: .
    images: [{name: shardmart/toolbox, dockerfile: k8s/images/toolbox/Dockerfile}]
"""

RETURN = r"""
tags: {description: The tag of each image by its name., type: dict, returned: always}
"""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

TAG_LENGTH = 12
OURS = re.compile(rf"[0-9a-f]{{{TAG_LENGTH}}}")
"""A tag that a run of this module made."""


def main():
    """Build, compare, load."""
    module = AnsibleModule(
        argument_spec={
            "kind_cluster": {"type": "str"},
            "push": {"type": "bool", "default": False},
            "context": {"type": "path", "required": True},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "dockerfile": {"type": "str", "required": True},
                    "context": {"type": "path"},
                },
            },
            "build_arguments": {"type": "list", "elements": "str", "default": []},
            "prune": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    if module.params["images"] and not module.get_bin_path("docker"):
        module.fail_json(msg="docker is not on PATH: images can only be built with a container engine")
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda image: build(module, image), module.params["images"]))
    names = [image["name"] for image in module.params["images"]]
    tags = {name: digest.removeprefix("sha256:")[:TAG_LENGTH] for name, digest in zip(names, digests, strict=True)}
    changed = []
    for name, digest in zip(names, digests, strict=True):
        wanted = f"{name}:{tags[name]}"
        if module.check_mode:
            continue
        run(module, ["docker", "tag", digest, wanted])
        run(module, ["docker", "tag", digest, f"{name}:latest"])
        if module.params["prune"]:
            prune(module, name, keep={wanted, f"{name}:latest"})
    if module.params["push"]:
        changed += [{"pushed": f"{name}:{tags[name]}"} for name in names if push(module, f"{name}:{tags[name]}")]
    if names and module.params["kind_cluster"]:
        for node in run(module, ["kind", "get", "nodes", "--name", module.params["kind_cluster"]]).split():
            known = on_node(module, node)
            missing = [f"{name}:{tags[name]}" for name in names if f"docker.io/{name}:{tags[name]}" not in known]
            if missing:
                changed.append({"node": node, "images": missing})
                if not module.check_mode:
                    load(module, node, missing)
    module.exit_json(changed=bool(changed), delivered=changed, tags=tags)


def build(module, image):
    """Build one image and return its digest."""
    folder = image["context"] or "."
    command = ["docker", "build", "--quiet", *module.params["build_arguments"], "--file", image["dockerfile"], folder]
    # subprocess, because run_command changes the process's folder, which threads share.
    done = subprocess.run(  # noqa: S603
        command, cwd=module.params["context"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        module.fail_json(msg=f"docker build of {image['name']} failed: {' | '.join(lines[-4:])}", output=lines[-60:])
    return done.stdout.strip().splitlines()[-1]


def on_node(module, node):
    """The references that the node's container runtime knows; a tag is made of the digest, so that is enough."""
    return set(run(module, ["docker", "exec", node, "ctr", "--namespace=k8s.io", "images", "ls", "--quiet"]).split())


def load(module, node, references):
    """Stream the images to the node in one archive, so that layers they share travel once."""
    importer = ["docker", "exec", "-i", node, "ctr", "--namespace=k8s.io", "images", "import", "-"]
    docker = module.get_bin_path("docker")
    with subprocess.Popen([docker, "save", *references], stdout=subprocess.PIPE) as save:  # noqa: S603
        done = subprocess.run(importer, stdin=save.stdout, capture_output=True, text=True, check=False)  # noqa: S603
    if save.returncode or done.returncode:
        module.fail_json(msg=f"loading {', '.join(references)} into {node} failed: {done.stderr.strip()[-400:]}")


def push(module, reference):
    """Push the image unless its registry has the tag, which is made of the digest; whether that was needed."""
    if not module.run_command(["docker", "manifest", "inspect", reference])[0]:
        return False
    if not module.check_mode:
        run(module, ["docker", "push", "--quiet", reference])
    return True


def prune(module, name, keep):
    """Untag what earlier builds left; other tags are somebody's, and an image that a container uses stays."""
    listed = run(module, ["docker", "images", name, "--format", "{{.Repository}}:{{.Tag}}"]).split()
    ours = {reference for reference in listed if OURS.fullmatch(reference.rpartition(":")[2])}
    for reference in ours - keep:
        module.run_command(["docker", "rmi", reference])


def run(module, command):
    """Run a command; a failure ends the module with what the command said."""
    code, out, error = module.run_command(command)
    if code:
        module.fail_json(msg=f"{' '.join(command[:3])} failed: {' '.join((error or out).split())[-600:]}")
    return out


if __name__ == "__main__":
    main()
