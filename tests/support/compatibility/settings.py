"""Server parameters and configuration keys: what goes into mongod.conf, and on the command lines of mongod and mongos.

Python writes a configuration as a dictionary with the manual's sections as keys; the chart as `dict` in a template, and
as arguments of a container.  Values of a cluster (`config:`) are YAML.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .syntax import Module, strings
from .use import ROOT, Kind, Use, yaml_documents

SECTIONS = frozenset(
    {"net", "security", "storage", "systemLog", "replication", "sharding", "setParameter", "processManagement",
     "operationProfiling", "auditLog"}
)  # fmt: skip
"""The sections of a configuration file (MongoDB manual, "Configuration File Options")."""
SERVERS = frozenset({"mongod", "mongos"})


def in_python(module: Module) -> Iterator[Use]:
    """Dictionaries with two of the sections or more, what is assigned into them, and options after a server's name."""
    if not any(word in module.text for word in SECTIONS | SERVERS):
        return
    for node in module.nodes:
        match node:
            case ast.Dict() if len(SECTIONS & _keys(node)) >= 2:
                yield from _flattened(module, node, "")
            case ast.Assign(targets=[ast.Subscript() as target]):
                path = _subscripts(target)
                if len(path) > 1 and path[0] in SECTIONS:
                    yield from _setting(module, ".".join(path), target.lineno)
            case ast.Tuple(elts=[ast.Name(id=server), *arguments]) if server in SERVERS:
                for argument in arguments:
                    for text in strings(argument):
                        if text.startswith("--"):
                            yield Use(Kind.CONFIGURATION, text, module.path, argument.lineno)


def _keys(node: ast.Dict) -> set[str]:
    return {text for key in node.keys if key is not None for text in strings(key)}


def _flattened(module: Module, node: ast.expr, path: str) -> Iterator[Use]:
    match node:
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                for text in strings(key) if key is not None else ():
                    yield from _flattened(module, value, f"{path}.{text}" if path else text)
        case ast.BinOp(left=left, right=right):
            yield from _flattened(module, left, path)
            yield from _flattened(module, right, path)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _flattened(module, body, path)
            yield from _flattened(module, orelse, path)
        case ast.Name(id=name) if values := [
            value for value in module.assigned(name, module.function_around(node)) if isinstance(value, ast.Dict)
        ]:
            for value in values:
                yield from _flattened(module, value, path)
            for other in module.nodes:
                match other:
                    case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=found)) as target], value=value) if (
                        found == name and module.function_around(other) is module.function_around(node)
                    ):
                        yield from _flattened(module, value, ".".join([path, *_subscripts(target)]))
        case _:
            yield from _setting(module, path, node.lineno)


def _subscripts(target: ast.expr) -> list[str]:
    """`c["security"]["authorization"]` as its keys."""
    keys: list[str] = []
    while isinstance(target, ast.Subscript):
        keys = [*strings(target.slice), *keys]
        target = target.value
    return keys


def _setting(module: Module, path: str, line: int) -> Iterator[Use]:
    section, _, name = path.partition(".")
    if section == "setParameter":
        if name:
            yield Use(Kind.PARAMETER, name, module.path, line)
    else:
        yield Use(Kind.CONFIGURATION, path, module.path, line)


def in_template(file: Path, root: Path = ROOT) -> Iterator[Use]:
    """`dict "section" (dict "key" value)` in templates; arguments of mongod and mongos in the pods' commands."""
    text, path = file.read_text(), str(file.relative_to(root))
    starts_a_server = bool(re.search(r"start-member\.sh, *mongo[ds]", text))
    for number, line in enumerate(text.splitlines(), 1):
        for name in re.findall(r"--setParameter[= ](\w+)=", line):
            yield Use(Kind.PARAMETER, name, path, number)
        if starts_a_server and (found := re.match(r"\s*- (--[A-Za-z]\w*)", line)):
            yield Use(Kind.CONFIGURATION, found[1], path, number)
        # One line of the template holds one section, with its own lists in parentheses.
        if (found := re.match(r'\s*"(\w+)" (\(dict .*\))\s*$', line)) and found[1] in SECTIONS:
            for name in _of_template(found[2], found[1]):
                yield from _named(name, path, number)
        if found := re.search(r'set \$conf\.(\w+) "(\w+)" (.+?) -?\}\}', line):
            outer = f"{found[1]}.{found[2]}"
            if found[3].startswith("(dict"):
                for name in _of_template(found[3], outer):
                    yield from _named(name, path, number)
            else:
                yield from _named(outer, path, number)


def _named(name: str, path: str, line: int) -> Iterator[Use]:
    section, _, rest = name.partition(".")
    yield (
        Use(Kind.PARAMETER, rest, path, line)
        if section == "setParameter"
        else Use(Kind.CONFIGURATION, name, path, line)
    )


def _of_template(text: str, outer: str) -> Iterator[str]:
    """The dotted keys of one `(dict "key" value …)`."""
    tokens = re.findall(r'"[^"]*"|[()]|[^\s()]+', text)

    def item(at: int) -> tuple[Any, int]:
        if tokens[at] != "(":
            return tokens[at], at + 1
        inner, at = [], at + 1
        while tokens[at] != ")":
            one, at = item(at)
            inner.append(one)
        return inner, at + 1

    def keys(tree: Any, path: str) -> Iterator[str]:
        if isinstance(tree, list) and tree and tree[0] == "dict":
            for key, value in zip(tree[1::2], tree[2::2], strict=True):
                yield from keys(value, f"{path}.{key.strip(chr(34))}")
        else:
            yield path

    yield from keys(item(0)[0], outer)


def in_yaml(file: Path, root: Path = ROOT) -> Iterator[Use]:
    """Mappings called `config` with the manual's sections, and lists called `extraArgs`."""
    text, path = file.read_text(), str(file.relative_to(root))
    if "config:" not in text and "extraArgs:" not in text:
        return
    for document in yaml_documents(text):
        yield from _of_node(document, path)


def _of_node(node: yaml.Node | None, path: str) -> Iterator[Use]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "config" and isinstance(value, yaml.MappingNode):
                for inner, below in value.value:
                    if inner.value in SECTIONS:
                        yield from _below(below, inner.value, path)
            elif key.value == "extraArgs" and isinstance(value, yaml.SequenceNode):
                for argument in value.value:
                    if found := re.match(r"--setParameter[= ](\w+)=", str(argument.value)):
                        yield Use(Kind.PARAMETER, found[1], path, argument.start_mark.line + 1)
                    elif found := re.match(r"--\w+", str(argument.value)):
                        yield Use(Kind.CONFIGURATION, found[0], path, argument.start_mark.line + 1)
            yield from _of_node(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _of_node(one, path)


def _below(node: yaml.Node, name: str, path: str) -> Iterator[Use]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _below(value, f"{name}.{key.value}", path)
    else:
        yield from _named(name, path, node.start_mark.line + 1)


def in_shell(file: Path, root: Path = ROOT) -> Iterator[Use]:
    """The commands that a shell script writes as bytes of BSON: a document that begins with an int32."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        for found in re.finditer(r"\\x10(\w+)\\0", line):
            yield Use(Kind.COMMAND, found[1], str(file.relative_to(root)), number)
