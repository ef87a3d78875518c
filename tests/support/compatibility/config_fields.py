"""The collections of the `config` database that Python reads, and the fields of their documents.

A variable belongs to a collection when it was given something in which the collection stands (a query's answer, a
document of it, a part of one), through assignments, loops, comprehensions and functions of the module that return it.
What it is asked for by a text is a field.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from .syntax import Function, Module, strings
from .use import Kind, Use

READ_BY = {"listShards": "shards"}
"""Commands that answer with the documents of a collection."""
ANSWER = frozenset({"cursor", "firstBatch", "shards"})
"""What stands around the documents in an answer."""
OPERATORS = frozenset({"$group", "$match", "$project", "$sort", "$sum"})


def in_python(module: Module) -> Iterator[Use]:
    """`config.COLLECTION` and `config.COLLECTION.FIELD`."""
    if not any(word in module.text for word in ('"config"', "'config'", ".config.", *READ_BY)):
        return
    returned = {
        function.name: found
        for function in module.nodes
        if isinstance(function, Function) and (found := _returned(module, function))
    }
    for function in module.nodes:
        if isinstance(function, Function):
            yield from _in_function(module, function, returned)


def _returned(module: Module, function: Function) -> str | None:
    known = _variables(module, function, {})
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            return _collection(node.value, known, {})
    return None


def _in_function(module: Module, function: Function, returned: Mapping[str, str]) -> Iterator[Use]:
    known = _variables(module, function, returned)
    for node in ast.walk(function):
        if module.function_around(node) is not function:
            continue
        if direct := _direct(node, known):
            yield Use(Kind.CONFIG_FIELD, f"config.{direct}", module.path, node.lineno)  # type: ignore[attr-defined]
        for collection, field in _fields(module, node, known, returned):
            if field not in ANSWER and not field.startswith("$"):
                yield Use(Kind.CONFIG_FIELD, f"config.{collection}.{field}", module.path, node.lineno)  # type: ignore[attr-defined]


def _fields(
    module: Module, node: ast.AST, known: Mapping[str, str], returned: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Subscript(value=ast.Name(id=name), slice=key) if known.get(name):
            yield from ((known[name], text) for text in strings(key))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[key, *_]) if known.get(name):
            yield from ((known[name], text) for text in strings(key))
        case ast.Call(func=ast.Attribute(value=receiver, attr="find" | "find_one" | "aggregate" | "sort")) if (
            collection := _collection(receiver, known, returned)
        ):
            for argument in node.args:
                yield from ((collection, field) for field in _asked(module, argument))


def _asked(module: Module, argument: ast.expr) -> Iterator[str]:
    """The fields in a filter, a projection, a sort, or a pipeline ("$uuid")."""
    match argument:
        case ast.Dict(keys=keys):
            for key in keys:
                yield from strings(key) if key is not None else ()
        case ast.Constant(value=str(text)):
            yield text
        case ast.Name(id=name):
            for value in module.assigned(name, None):
                for node in ast.walk(value):
                    match node:
                        case ast.Constant(value=str(text)) if text.startswith("$") and text not in OPERATORS:
                            yield text.removeprefix("$")


def _variables(module: Module, function: Function, returned: Mapping[str, str]) -> dict[str, str]:
    """Which collection each variable of the function belongs to; "" is the database itself."""
    known: dict[str, str] = {}
    while True:
        before = dict(known)
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[target], value=value) | ast.For(target=target, iter=value):
                    _bind(target, value, known, returned)
                case ast.comprehension(target=target, iter=value) | ast.NamedExpr(target=target, value=value):
                    _bind(target, value, known, returned)
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    _bind(target, value, known, returned)
        if before == known:
            return known


def _bind(target: ast.expr, value: ast.expr, known: dict[str, str], returned: Mapping[str, str]) -> None:
    if not isinstance(target, ast.Name) or target.id in known:
        return
    match value:
        case ast.Subscript(slice=ast.Constant(value="config")) | ast.Attribute(attr="config"):
            known[target.id] = ""
        case ast.Dict() | ast.Call() | ast.Subscript() | ast.BoolOp() | ast.IfExp():
            if collection := _collection(value, known, returned):
                known[target.id] = collection
        case ast.Name(id=name) if known.get(name):
            known[target.id] = known[name]


def _collection(expression: ast.expr, known: Mapping[str, str], returned: Mapping[str, str]) -> str | None:
    """The one collection that stands in an expression."""
    match expression:
        case ast.DictComp() | ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            # What comes of a loop over documents is theirs only when it is the documents.
            if isinstance(expression, ast.DictComp) and isinstance(expression.value, ast.Name):
                return _collection(expression.generators[0].iter, known, returned)
            return None
        case ast.Call(func=ast.Name(id=name)) if name in returned:
            return returned[name]
        case ast.Call(func=ast.Name(id="list" | "sorted" | "dict"), args=[first, *_]):
            return _collection(first, known, returned)
        case ast.Call(func=ast.Attribute(attr="command"), args=arguments):
            for argument in arguments:
                for text in strings(argument):
                    if text in READ_BY:
                        return READ_BY[text]
                if isinstance(argument, ast.Name) and known.get(argument.id):
                    return known[argument.id]
            return None
        case ast.Call(func=ast.Attribute(value=receiver, attr=attribute)):
            if attribute in {"find", "find_one", "sort", "get", "items", "values"}:
                return _collection(receiver, known, returned)
            return None
        case ast.Dict() if (found := _queried(expression)) is not None:
            return found
        case ast.IfExp(body=body):
            return _collection(body, known, returned)
        case ast.BoolOp(values=[*_, last]):
            return _collection(last, known, returned)
        case ast.Name(id=name):
            return known.get(name) or None
    if direct := _direct(expression, known):
        return direct
    if isinstance(expression, ast.Subscript):
        return _collection(expression.value, known, returned)
    return None


def _direct(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """`client["config"]["shards"]`, `client.config.tags`, `config["chunks"]`, and a `find` on that database."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(collection))) if known.get(name) == "":
            return collection
        case ast.Subscript(
            value=ast.Subscript(slice=ast.Constant(value="config")), slice=ast.Constant(value=str(collection))
        ):
            return collection
        case ast.Attribute(
            value=ast.Attribute(value=ast.Name(id="client") | ast.Attribute(attr="client"), attr="config"),
            attr=collection,
        ):
            return collection
        case ast.Dict():
            return _queried(node)
    return None


def _queried(document: ast.Dict) -> str | None:
    values = {
        text: value
        for key, value in zip(document.keys, document.values, strict=True)
        if key is not None
        for text in strings(key)
    }
    match values.get("find"), values.get("$db"):
        case ast.Constant(value=str(collection)), ast.Constant(value="config"):
            return collection
    return None
