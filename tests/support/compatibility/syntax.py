"""A Python module as a tree, with the questions that are asked of it: what was assigned, returned, imported, called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .use import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False)
class Module:
    """One module; `others` are all that are looked at, by dotted name."""

    path: str
    text: str
    others: dict[str, Module]

    @classmethod
    def read(cls, file: Path, others: dict[str, Module], root: Path = ROOT) -> Module:
        """Parse a file and enter it into `others`."""
        module = cls(str(file.relative_to(root)), file.read_text(), others)
        others[module.name] = module
        return module

    @property
    def name(self) -> str:
        """Dotted, as other modules import it."""
        return self.path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        """The module's tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node."""
        return list(ast.walk(self.tree))

    @cached_property
    def decorators(self) -> set[int]:
        """Identities of the expressions that decorate."""
        return {id(one) for node in self.nodes for one in getattr(node, "decorator_list", ())}

    @cached_property
    def _functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, Function)]

    @cached_property
    def _around(self) -> dict[int, Function]:
        """The innermost function around each node."""
        # The walk is breadth first: an inner function comes later and overwrites.
        return {
            id(inner): function for function in self._functions for inner in ast.walk(function) if inner is not function
        }

    def function_around(self, node: ast.AST) -> Function | None:
        """The innermost function that the node stands in."""
        return self._around.get(id(node))

    def calls(self) -> Iterator[ast.Call]:
        """Every call."""
        return (node for node in self.nodes if isinstance(node, ast.Call))

    def returns(self, name: str) -> list[ast.expr]:
        """What a function of this module returns."""
        return [
            node.value
            for function in self._functions
            if function.name == name
            for node in ast.walk(function)
            if isinstance(node, ast.Return) and node.value is not None
        ]

    def assigned(self, name: str, function: Function | None) -> list[ast.expr]:
        """What the variable was given in the function and those around it, else in the module."""
        while function is not None:
            if found := list(_assignments(self, function, name)):
                return found
            function = self._around.get(id(function))
        return [value for statement in self.tree.body for value in _assignments(self, statement, name, deep=False)]

    def imported(self, name: str) -> tuple[Module, list[ast.expr]] | None:
        """The module that a constant comes from, with what it was assigned there."""
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
                parts = self.name.split(".")
                is_package = self.path.endswith("__init__.py")
                base = parts[: len(parts) - node.level + is_package] if node.level else []
                source = self.others.get(".".join([*base, *([node.module] if node.module else [])]))
                if source is not None and (values := source.assigned(name, None)):
                    return source, values
        return None


def _assignments(module: Module, tree: ast.AST, name: str, *, deep: bool = True) -> Iterator[ast.expr]:
    for node in ast.walk(tree) if deep else [tree]:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _bound(target, value, name)
            case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name and value is not None:
                yield value
            case ast.NamedExpr(target=ast.Name(id=found), value=value) if found == name:
                yield value
            case ast.For(target=target, iter=iterated) | ast.comprehension(target=target, iter=iterated):
                yield from _items(module, target, iterated, name, tree)


def _bound(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    match target, value:
        case ast.Name(id=found), _ if found == name:
            yield value
        case ast.Tuple(elts=targets), ast.Tuple(elts=values):
            for one, its in zip(targets, values, strict=False):
                yield from _bound(one, its, name)


def _items(module: Module, target: ast.expr, iterated: ast.expr, name: str, tree: ast.AST) -> Iterator[ast.expr]:
    """What a loop's variable is given: the items of lists written down, and what is appended or added to them."""
    for row in _rows(module, iterated, tree):
        yield from _bound(target, row, name)


def _rows(module: Module, listed: ast.expr, tree: ast.AST) -> Iterator[ast.expr]:
    match listed:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            yield from elements
        case ast.Call(func=ast.Name(id=function)):
            for returned in module.returns(function):
                if isinstance(returned, ast.List):
                    yield from returned.elts
        case ast.Name(id=variable):
            for node in ast.walk(tree):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr="append"), args=[row]) if (
                        found == variable
                    ):
                        yield row
                    case ast.AugAssign(target=ast.Name(id=found), value=value) if found == variable:
                        yield from _rows(module, value, tree)


def called_name(call: ast.expr) -> str | None:
    """The bare name of what is called."""
    match call:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
    return None


def strings(expression: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from strings(body)
            yield from strings(orelse)
