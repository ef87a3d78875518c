"""One exception tree, one ladder: every failure of ours ends a command with a line and a code that is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import typer

import shardmart
from shardmart import command
from shardmart.errors import BAD_USE, FAILED, INTERRUPTED, REFUSED, UNREACHABLE, ShardmartError

ROOT = Path(__file__).parents[2]
SOURCE = Path(shardmart.__file__).parent
OUTSIDE = (
    # Speaks MongoDB's protocol: its exceptions are answers on the wire, with the server's codes, and end no command.
    "shardmart.router.",
    # The shop's services answer theirs as problem documents, or try again; its commands raise those of the tree.
    "shardmart.shop.domain.",
    "shardmart.shop.ports",
    "shardmart.shop.saga.",
    "shardmart.shop.web.",
    # Run alone on a node or in a network namespace, where nothing else of Shardmart is; they tell by lines of JSON.
    "shardmart.chaos.packets.",
    "shardmart.chaos.agents.node",
)


def exceptions() -> list[type[BaseException]]:
    found: list[type[BaseException]] = []
    for module in pkgutil.walk_packages([str(SOURCE)], "shardmart."):
        if module.name.startswith(OUTSIDE) or module.name.endswith("__main__"):
            continue
        classes = filter(inspect.isclass, vars(importlib.import_module(module.name)).values())
        found += [each for each in classes if issubclass(each, BaseException) and each.__module__ == module.name]
    return found


def test_every_exception_of_ours_is_in_the_tree_with_a_documented_code() -> None:
    found = exceptions()
    assert ShardmartError in found
    assert {each for each in found if not issubclass(each, ShardmartError)} == set()
    codes = {FAILED, BAD_USE, UNREACHABLE, REFUSED}
    assert {each for each in found if issubclass(each, ShardmartError) and each.exit_code not in codes} == set()


def caught(file: Path) -> set[str]:
    """What a file catches of typer's (its SystemExit too), and where it tells click's exceptions by their method."""
    names: set[str] = set()
    text = file.read_text()
    pattern = r"\b(?:typer|click)\.\w+" + (r"|\bSystemExit\b" if "typer.Typer(" in text else "")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            names |= set(re.findall(pattern, ast.unparse(node.type)))
        if isinstance(node, ast.Constant) and node.value == "format_message":
            names.add("format_message")
    return {f"{file.relative_to(SOURCE)}: {name}" for name in names}


def test_no_module_but_the_ladder_catches_what_typer_raises() -> None:
    assert caught(SOURCE / "command.py")
    others = [file for file in SOURCE.rglob("*.py") if file != SOURCE / "command.py"]
    assert {name for file in others for name in caught(file)} == set()


class NoisyError(ShardmartError):
    exit_code = REFUSED


def raising(error: BaseException) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command()
    def noisy(number: int = 0) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NoisyError("it said no"), REFUSED, "shardmart noisy: it said no\n"),
        (FileExistsError(17, "File exists", "/a/b"), 5, "shardmart noisy: /a/b: File exists\n"),
        (OSError(28, "No space left on device"), 5, "shardmart noisy: No space left on device\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),  # typer ends by itself
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (typer.Abort(), INTERRUPTED, ""),
        (typer.Exit(7), 7, ""),
        (typer.BadParameter("not so"), BAD_USE, "shardmart noisy: Invalid value: not so (see --help)\n"),
        (SystemExit(9), 9, ""),
    ],
)
def test_the_ladder_gives_one_line_and_a_code(
    error: BaseException, code: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.run_app(raising(error), "noisy", [], os_error=5) == code
    assert capfd.readouterr().err == line


def test_a_usage_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_app(raising(ValueError()), "noisy", ["--number", "many"]) == BAD_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("shardmart noisy: Invalid value for '--number'")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command.run_app(raising(ZeroDivisionError()), "noisy", [])


def test_the_codes_of_every_command_stand_in_the_manual() -> None:
    from shardmart.cli import COMMANDS

    table = (ROOT / "docs" / "operating.md").read_text()
    assert {name for name in COMMANDS if f"| `shardmart {name}" not in table} == set()
