"""How many lines of code the development router has, by room: without blanks, comments and docstrings.

python -m tests.support.router_size
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROUTER = Path(__file__).parents[2] / "src" / "shardmart" / "router"
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def lines_of_code(source: str) -> int:
    """Lines that hold some token of Python which is neither a comment nor a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def by_room() -> Counter[str]:
    """Lines of code of each package of the router; those beside the packages under "client and command line"."""
    rooms: Counter[str] = Counter()
    for path in sorted(ROUTER.rglob("*.py")):
        room = "client and command line" if path.parent == ROUTER else path.parent.name
        rooms[room] += lines_of_code(path.read_text())
    return rooms


if __name__ == "__main__":
    for name, count in by_room().items():
        print(f"| {name} | {count:,} |")
    print(f"| | {by_room().total():,} |")
