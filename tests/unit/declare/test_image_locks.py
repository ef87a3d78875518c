"""Claims of the lock files of images and of `make up`: part of the one lock with its hashes, enough for the code."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from shardmart.cli import COMMANDS

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
LOCKS = {
    "up": ROOT / ".ci" / "up.lock",
    "database": ROOT / "k8s" / "images" / "database" / "requirements.lock",
    "toolbox": ROOT / "k8s" / "images" / "toolbox" / "requirements.lock",
    "loader": ROOT / "loader" / "requirements.lock",
    "shop": ROOT / "k8s" / "images" / "shop" / "requirements.lock",
    "cache": ROOT / "k8s" / "images" / "cache" / "requirements.lock",
}
SHIPPED = {
    "database": sorted((SOURCE / "shardmart" / "router").glob("*.py")),
    # `freeze` draws the pools anew, with Faker; it is for this repository only.
    "loader": [file for file in sorted((SOURCE / "shardmart" / "loader").rglob("*.py")) if file.stem != "freeze"],
    "toolbox": [
        *(SOURCE / f"{module.replace('.', '/')}.py" for module, _ in COMMANDS.values()),
        *sorted((ROOT / "plugins" / "modules").glob("*.py")),
        ROOT / "plugins" / "inventory" / "topology.py",
        *sorted((ROOT / "k8s" / "images" / "toolbox" / "bin").glob("kubernetes-*")),
    ],
    "shop": sorted((SOURCE / "shardmart" / "shop").rglob("*.py")),
    # What playbooks and `make status` call on this machine; shop, faults and Kubernetes come with `make install`.
    "up": [
        *sorted((ROOT / "plugins" / "modules").glob("*.py")),
        *sorted((ROOT / "plugins" / "action").glob("*.py")),
        ROOT / "plugins" / "inventory" / "topology.py",
        *(
            SOURCE / f"{COMMANDS[name][0].replace('.', '/')}.py"
            for name in ("status", "render", "load", "ledger", "ring", "router")
        ),
    ],
}


def requirements(lock: Path) -> dict[str, frozenset[str]]:
    """The hashes of every "name==version" of a lock file."""
    found: dict[str, frozenset[str]] = {}
    for entry in re.split(r"^(?=[\w.-]+==)", lock.read_text(), flags=re.MULTILINE)[1:]:
        found[entry.split()[0]] = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
    return found


def imported(file: Path, seen: set[Path]) -> Iterator[str]:
    """Top-level packages, other than ours, that importing `file` imports."""
    if file in seen:
        return
    seen.add(file)
    for module in modules(file, ast.parse(file.read_text()).body):
        name = module.removeprefix("ansible.module_utils.")
        if name.split(".")[0] != "shardmart":
            yield module.split(".")[0]
            continue
        for path in places(name):
            yield from imported(path, seen)


def places(module: str) -> Iterator[Path]:
    """The file of a module of ours, and of the packages around it."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        base = SOURCE.joinpath(*parts[:depth])
        yield from (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists())


def modules(file: Path, body: list[ast.stmt]) -> Iterator[str]:
    """What these statements import when the module is imported; not what functions do, nor type checkers."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            package = statement.module or ""
            if statement.level:
                above = file.relative_to(SOURCE).parts[: -statement.level]
                package = ".".join([*above, *([package] if package else [])])
            yield package
            yield from (f"{package}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.Try):
            yield from modules(file, statement.body)


@pytest.mark.parametrize("image", LOCKS)
def test_an_image_installs_a_part_of_the_one_lock_with_its_hashes(image: str) -> None:
    everything, part = requirements(ROOT / "requirements.lock"), requirements(LOCKS[image])
    assert part
    assert {name: hashes for name, hashes in part.items() if not hashes or everything.get(name) != hashes} == {}


@pytest.mark.parametrize("image", SHIPPED)
def test_an_image_installs_what_its_code_imports(image: str) -> None:
    installed = {re.sub(r"[-_.]+", "-", name.split("==")[0]).lower() for name in requirements(LOCKS[image])}
    distributions = packages_distributions()
    seen: set[Path] = set()
    needed = {name for file in SHIPPED[image] for name in imported(file, seen)} - set(sys.stdlib_module_names)
    assert "bson" in needed
    missing = {
        name
        for name in needed
        if not {re.sub(r"[-_.]+", "-", d).lower() for d in distributions.get(name, [name])} & installed
    }
    assert missing == set()
