"""Who reaches whom inside a kind cluster: connections tried from a pod that nobody knows."""

from __future__ import annotations

import json

from tests.support.kind_site import KindSite

CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
        print("yes")
    except OSError:
        print("no")
"""
"""Of `python -c`: for each HOST:PORT a line, yes or no."""


def reaches(site: KindSite, namespace: str, *addresses: str) -> list[bool]:
    """Whether a pod of this namespace, with no label of ours, can open connections."""
    path = "-o=jsonpath={.spec.template.spec.containers[0].image}"
    image = site.kubectl("get", f"deployment/{site.name}-toolbox", path)
    secure = {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 999,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {
        "name": "stranger", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": secure,
        "command": ["python3", "-c", CONNECT, *addresses],
    }  # fmt: skip
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    site.run("kubectl", "apply", "-f", "-", text=json.dumps(pod))
    try:
        ended = ("--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
        site.run("kubectl", "-n", namespace, "wait", "pod/stranger", *ended)
        return [answer == "yes" for answer in site.run("kubectl", "-n", namespace, "logs", "stranger").split()]
    finally:
        site.run("kubectl", "-n", namespace, "delete", "pod", "stranger", "--wait")
