"""One exception tree, one ladder: every failure of ours ends a command with a line and a code that is documented."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import shardmart
from shardmart import command
from shardmart.cli import COMMANDS
from shardmart.errors import BAD_USE, EXIT_CODES, FAILED, INTERRUPTED, REFUSED, UNREACHABLE, ShardmartError

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
    table = (ROOT / "docs" / "operating.md").read_text()
    rows = {}
    for line in re.findall(r"^\| `shardmart ([a-z ]+)` \|(.*)\|$", table, re.MULTILINE):
        cells = [cell.strip() for cell in line[1].split("|")]
        rows[line[0]] = dict(zip((0, FAILED, BAD_USE, UNREACHABLE, REFUSED, INTERRUPTED), cells, strict=False))
    found = {name: {code: words for code, words in row.items() if words} for name, row in rows.items()}
    assert found == EXIT_CODES


def test_every_command_has_exit_codes() -> None:
    assert {name.split()[0] for name in EXIT_CODES} == set(COMMANDS)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command, and every command in it, by its words."""
    for name, (module, _) in COMMANDS.items():
        yield name, []
        module = {"shardmart.fragments_pods": "shardmart.fragments.cli"}.get(module, module)
        app = getattr(importlib.import_module(module), "app", None)
        yield from ((name, words) for words in below(app) if words)


def below(app: typer.Typer | None) -> Iterator[list[str]]:
    if app is None or len(app.registered_commands) == 1:
        return
    for one in app.registered_commands:
        assert one.callback
        yield [one.name or one.callback.__name__.replace("_", "-")]
    for group in app.registered_groups:
        assert group.typer_instance
        yield from ([str(group.name), *words] for words in ([], *below(group.typer_instance)))


@pytest.mark.parametrize(("name", "words"), list(commands()), ids=lambda part: "-".join(part) or "all")
def test_help_ends_with_the_exit_codes(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setenv("SHARDMART_STATE", "/nowhere")
    with contextlib.suppress(SystemExit):
        importlib.import_module(COMMANDS[name][0]).main([*words, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    codes = EXIT_CODES.get(" ".join([name, *words])) or EXIT_CODES.get(name, {})
    expected = " ".join(f"{code} {text}," for code, text in codes.items()).removesuffix(",")
    assert said.endswith(f"Exit codes: {expected}." if codes else "")
