"""Where one line of a Python module can be made wrong: a comparison, a condition, a sign, a truth value.

Pure functions over source text. A mutation replaces a few characters of one line, so that what it does can be shown
in a line. What is only for the type checker or the reader (annotations, decorators, `TYPE_CHECKING`) is left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
SIGNS: dict[type[ast.operator], tuple[str, str]] = {ast.Add: (r"\+", "-"), ast.Sub: ("-", "+")}


@dataclass(frozen=True, order=True)
class Mutation:
    """Characters `start` to `end` (0-based columns) of line `line` (1-based) become `text`."""

    line: int
    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        """The module with this one mistake in it."""
        lines = source.splitlines(keepends=True)
        lines[self.line - 1] = self.changed(lines[self.line - 1])
        return "".join(lines)

    def changed(self, line: str) -> str:
        """The line with the mistake in it."""
        return line[: self.start] + self.text + line[self.end :]


def mutations(source: str) -> list[Mutation]:
    """Every mutation of a module, in the order of its lines."""
    tree = ast.parse(source)
    lines = source.splitlines()
    if not source.isascii():  # the parser counts bytes, a Mutation counts characters
        lines = [line.encode().decode("latin-1") for line in lines]
    found = {mutation for node in _code(tree) for mutation in _of(node, lines)}
    if not source.isascii():
        found = {_in_characters(mutation, source.splitlines()) for mutation in found}
    return sorted(found)


def inside_functions(source: str) -> set[int]:
    """The lines that run when a function is called, not when the module is imported."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return {line for f in functions for line in range(f.body[0].lineno, (f.end_lineno or f.lineno) + 1)}


def _in_characters(mutation: Mutation, lines: list[str]) -> Mutation:
    raw = lines[mutation.line - 1].encode()
    start, end = (len(raw[:column].decode()) for column in (mutation.start, mutation.end))
    return Mutation(mutation.line, start, end, mutation.text.encode("latin-1").decode())


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something when the module runs."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _of(node: ast.AST, lines: list[str]) -> Iterator[Mutation]:
    match node:
        case ast.Compare():
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                yield from _between(left, right, *COMPARISONS[type(operator)], lines)
        case ast.BoolOp():
            pattern, text = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from _between(left, right, pattern, text, lines)
        case ast.BinOp() if type(node.op) in SIGNS:
            yield from _between(node.left, node.right, *SIGNS[type(node.op)], lines)
        case ast.AugAssign() if type(node.op) in SIGNS:
            pattern, text = SIGNS[type(node.op)]
            yield from _between(node.target, node.value, f"{pattern}=", f"{text}=", lines)
        case ast.UnaryOp(op=ast.Not()):
            yield from _between(node, node.operand, r"not\s*", "", lines, from_start=True)
        case ast.UnaryOp(op=ast.USub()):
            yield from _between(node, node.operand, "-", "", lines, from_start=True)
        case ast.Constant(value=bool()):
            yield Mutation(node.lineno, node.col_offset, _end(node), str(not node.value))
    test = getattr(node, "test", None)
    if isinstance(test, ast.expr) and test.lineno == test.end_lineno and not isinstance(node, ast.Assert):
        condition = lines[test.lineno - 1][test.col_offset : _end(test)]
        yield Mutation(test.lineno, test.col_offset, _end(test), f"(not ({condition}))")
    for test in getattr(node, "ifs", []):
        if test.lineno == test.end_lineno:
            condition = lines[test.lineno - 1][test.col_offset : _end(test)]
            yield Mutation(test.lineno, test.col_offset, _end(test), f"(not ({condition}))")


def _between(
    left: ast.expr, right: ast.expr, pattern: str, text: str, lines: list[str], *, from_start: bool = False
) -> Iterator[Mutation]:
    """Replace what stands between two expressions of one line (before the second, when `from_start`)."""
    line, column = (left.lineno, left.col_offset) if from_start else (left.end_lineno, _end(left))
    if line == right.lineno and (found := re.search(pattern, lines[line - 1][column : right.col_offset])):
        yield Mutation(line, column + found.start(), column + found.end(), text)


def _end(node: ast.expr) -> int:
    assert node.end_col_offset is not None
    return node.end_col_offset
