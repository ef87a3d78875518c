"""Everything of the server that the code uses, and what could not be followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from . import access, config_fields, error_codes, settings
from .commands import Commands, Unfollowed
from .syntax import Module
from .use import ROOT, Use, files


def derive(root: Path = ROOT) -> tuple[set[Use], list[Unfollowed]]:
    """Read the checkout; the same checkout gives the same answer."""
    modules: dict[str, Module] = {}
    for file in files(".py", root=root):
        Module.read(file, modules, root)
    commands = Commands(list(modules.values()))
    found = set(commands.uses())
    for module in modules.values():
        for look in (settings.in_python, config_fields.in_python, access.in_python, error_codes.in_python):
            found |= set(look(module))
    found |= set(_in_other_files(root))
    return found, commands.unfollowed


def _in_other_files(root: Path) -> Iterator[Use]:
    for file in files(".tpl", ".yaml", ".yml", root=root):
        yield from settings.in_template(file, root)
    for file in files(".yaml", ".yml", root=root):
        yield from settings.in_yaml(file, root)
        yield from access.in_yaml(file, root)
    for file in files(".sh", root=root):
        yield from settings.in_shell(file, root)
