"""Roles, privilege actions and collections of `config` that users are given: declared in YAML, and in Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

from .syntax import Module, strings
from .use import ROOT, Kind, Use, yaml_documents


def in_yaml(file: Path, root: Path = ROOT) -> Iterator[Use]:
    """`roles: [{role, db}]` and `privileges: [{resource, actions}]`."""
    text, path = file.read_text(), str(file.relative_to(root))
    if "actions:" not in text and "role:" not in text:
        return
    for document in yaml_documents(text):
        yield from _below(document, path, set())


def _below(node: yaml.Node | None, path: str, seen: set[int]) -> Iterator[Use]:
    if node is None or id(node) in seen:  # an alias leads to the same node
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        fields = {key.value: value for key, value in node.value}
        if {"role", "db"} <= fields.keys() and isinstance(fields["role"], yaml.ScalarNode):
            yield Use(Kind.ROLE, fields["role"].value, path, node.start_mark.line + 1)
        if {"resource", "actions"} <= fields.keys():
            for action in fields["actions"].value:
                yield Use(Kind.ACTION, action.value, path, action.start_mark.line + 1)
            resource = {key.value: value.value for key, value in fields["resource"].value}
            if resource.get("db") == "config":
                name = f"config.{resource['collection']}"
                yield Use(Kind.CONFIG_FIELD, name, path, node.start_mark.line + 1)
        for value in fields.values():
            yield from _below(value, path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _below(one, path, seen)


def in_python(module: Module) -> Iterator[Use]:
    """`{"role": "readWrite", "db": …}` and `{"resource": …, "actions": […]}`."""
    for node in module.nodes:
        if not isinstance(node, ast.Dict):
            continue
        fields = {
            text: value
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
            for text in strings(key)
        }
        if {"role", "db"} <= fields.keys():
            yield from (Use(Kind.ROLE, role, module.path, node.lineno) for role in strings(fields["role"]))
        if {"resource", "actions"} <= fields.keys() and isinstance(fields["actions"], ast.List):
            for action in fields["actions"].elts:
                yield from (Use(Kind.ACTION, text, module.path, node.lineno) for text in strings(action))
