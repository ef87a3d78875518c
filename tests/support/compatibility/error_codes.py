"""The server's error codes that Python decides by: names of `cluster.protocol.codes`, numbers compared with `.code`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .syntax import Module, called_name
from .use import Kind, Use

CODES = "shardmart.cluster.protocol.codes"


def in_python(module: Module) -> Iterator[Use]:
    """Nothing where PyMongo's errors are not known: other things have a `.code`, too."""
    if module.name == CODES or not ("pymongo" in module.text or "protocol" in module.text):
        return
    for node in module.nodes:
        match node:
            case ast.Attribute(value=ast.Name(id="codes")):
                yield from _uses(module, node, node)
            case ast.Compare(left=left, comparators=comparators) if any(
                _is_a_code(side) for side in (left, *comparators)
            ):
                for side in (left, *comparators):
                    yield from _uses(module, side, node)
            case ast.Call() if called_name(node) == "is_code":
                for argument in node.args[1:]:
                    yield from _uses(module, argument, node)
            case ast.BinOp(left=ast.SetComp(elt=element), right=right) if _is_a_code(element):
                yield from _uses(module, right, node)


def _is_a_code(expression: ast.expr) -> bool:
    """`error.code`, `each["code"]`, `codes` of such."""
    match expression:
        case ast.Attribute(attr="code") | ast.Subscript(slice=ast.Constant(value="code")):
            return True
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value="code"), *_]):
            return True
        case ast.Name(id="codes"):
            return True
    return False


def _uses(module: Module, expression: ast.expr, at: ast.AST) -> Iterator[Use]:
    for number in _numbers(module, expression):
        yield Use(Kind.ERROR_CODE, str(number), module.path, at.lineno)  # type: ignore[attr-defined]


def _numbers(module: Module, expression: ast.expr) -> Iterator[int]:
    match expression:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            yield number
        case ast.Tuple(elts=elements) | ast.Set(elts=elements) | ast.List(elts=elements):
            for element in elements:
                yield from _numbers(module, element)
        case ast.Call(func=ast.Name(id="frozenset" | "set"), args=[inner]):
            yield from _numbers(module, inner)
        case ast.Starred(value=inner):
            yield from _numbers(module, inner)
        case ast.Attribute(value=ast.Name(id="codes"), attr=name) if CODES in module.others:
            for value in module.others[CODES].assigned(name, None):
                yield from _numbers(module.others[CODES], value)
        case ast.Name(id=name):
            values = module.assigned(name, None)
            for value in values:
                yield from _numbers(module, value)
            if not values and (found := module.imported(name)):
                for value in found[1]:
                    yield from _numbers(found[0], value)
