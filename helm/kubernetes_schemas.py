"""Turns a Kubernetes API server's OpenAPI document into the JSON Schemas that `make lint-chart` gives to kubeconform.

    kubectl get --raw /openapi/v2 | python helm/kubernetes_schemas.py helm/schemas

Only the kinds our charts and k8s/gitops use are kept, without descriptions; one that the cluster lacks (Argo CD's,
Flux' or External Secrets', where their definitions are not installed) keeps its file. An unknown key is an error
(kubeconform's "strict"), because a typo that the API server drops in silence is what the check is for. The files are
kept in the repository, so the check needs no network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS = {
    ("", "v1"): ("ConfigMap", "Namespace", "Pod", "Secret", "Service", "ServiceAccount"),
    ("apps", "v1"): ("Deployment", "StatefulSet"),
    ("autoscaling", "v2"): ("HorizontalPodAutoscaler",),
    ("batch", "v1"): ("CronJob", "Job"),
    ("networking.k8s.io", "v1"): ("NetworkPolicy",),
    ("argoproj.io", "v1alpha1"): ("Application", "AppProject"),
    ("external-secrets.io", "v1"): ("ExternalSecret",),
    ("helm.toolkit.fluxcd.io", "v2"): ("HelmRelease",),
    ("kustomize.toolkit.fluxcd.io", "v1"): ("Kustomization",),
    ("source.toolkit.fluxcd.io", "v1"): ("GitRepository",),
    ("policy", "v1"): ("PodDisruptionBudget",),
    ("rbac.authorization.k8s.io", "v1"): ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
}
REFERENCE = "#/definitions/"
# Types whose JSON is more than their OpenAPI type says (k8s.io/apimachinery, their UnmarshalJSON).
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
KEPT = ("type", "properties", "items", "required", "enum", "additionalProperties")


def simplified(schema: dict[str, Any]) -> dict[str, Any]:
    """The parts of a schema that decide whether a value is accepted."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    kept = {key: schema[key] for key in KEPT if key in schema}
    if "properties" in kept:
        kept["properties"] = {name: simplified(child) for name, child in kept["properties"].items()}
        kept.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = simplified(kept[key])
    return kept


def references(schema: Any) -> set[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(schema, list):
        return {name for child in schema for name in references(child)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].removeprefix(REFERENCE)} if isinstance(schema.get("$ref"), str) else set()
    return own | {name for child in schema.values() for name in references(child)}


def of_kind(definitions: dict[str, Any], group: str, version: str, kind: str) -> dict[str, Any] | None:
    """One self-contained schema: the kind, and every definition it leads to; None for one that the server has not."""
    wanted = {"group": group, "version": version, "kind": kind}
    root = next(
        (name for name, schema in definitions.items() if wanted in schema.get("x-kubernetes-group-version-kind", [])),
        None,
    )
    if root is None:
        return None
    found: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = LOOSE.get(name) or simplified(definitions[name])
            waiting += sorted(references(found[name]))
    top = found.pop(root)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **top, "definitions": dict(sorted(found.items()))}


def main() -> None:
    """Write one file for each kind, as kubeconform names them: kind, first word of the group, version."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    document = json.load(sys.stdin)
    for (group, version), kinds in KINDS.items():
        for kind in kinds:
            suffix = f"-{group.split('.')[0]}-{version}" if group else f"-{version}"
            schema = of_kind(document["definitions"], group, version, kind)
            if schema is None:
                print(f"{group}/{version} {kind}: this server has none", file=sys.stderr)
                continue
            (folder / f"{kind.lower()}{suffix}.json").write_text(json.dumps(schema, separators=(",", ":")) + "\n")
    print(f"Kubernetes {document['info']['version']}: {sum(map(len, KINDS.values()))} kinds")


if __name__ == "__main__":
    main()
