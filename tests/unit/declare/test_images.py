"""What an image copies of the package is whole: nothing in it imports a module that is not in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
DOCKERFILES = sorted([*ROOT.glob("k8s/images/*/Dockerfile"), *ROOT.glob("*/Dockerfile")])


def copied(dockerfile: Path) -> set[Path]:
    """The modules of the package that a Dockerfile copies from the context."""
    text = dockerfile.read_text().replace("\\\n", " ")
    sources = [ROOT / word for line in re.findall(r"^COPY (?!--from)(.+)", text, re.MULTILINE) for word in line.split()]
    found = {file for place in sources for file in ([place] if place.is_file() else place.rglob("*.py"))}
    return {file for file in found if file.suffix == ".py" and file.is_relative_to(SOURCE / "shardmart")}


def module_of(name: str) -> Path | None:
    """The file of a module or package of ours."""
    place = SOURCE.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def imported(file: Path) -> Iterator[Path]:
    """The modules of ours that a module imports, in functions too, but not for type checkers alone."""
    package = ".".join(file.relative_to(SOURCE).parent.parts)
    for node in walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (parent, node.module) if part)
            names = [base, *(f"{base}.{one.name}" for one in node.names)]
        else:
            continue
        yield from (found for name in names if name.startswith("shardmart") and (found := module_of(name)))


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk(child)


@pytest.mark.parametrize("dockerfile", [one for one in DOCKERFILES if copied(one)], ids=lambda one: one.parent.name)
def test_an_image_has_every_module_that_its_modules_import(dockerfile: Path) -> None:
    there = copied(dockerfile)
    missing = {
        f"{file.relative_to(SOURCE)} imports {needed.relative_to(SOURCE)}"
        for file in there
        for needed in imported(file)
        if needed not in there
    }
    assert missing == set()


def test_the_images_that_have_modules_of_ours_are_found() -> None:
    assert {one.parent.name for one in DOCKERFILES if copied(one)} >= {"database", "loader", "shop", "toolbox"}
