"""An image that has a part of the package has every module that this part imports, at whatever moment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "shardmart"
DOCKERFILES = sorted([*(ROOT / "k8s" / "images").glob("*/Dockerfile"), ROOT / "loader" / "Dockerfile"])


def copied(dockerfile: Path) -> set[Path]:
    """The package's modules that an image has."""
    text = dockerfile.read_text().replace("\\\n", " ")
    words = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    sources = [ROOT / word for word in words if word.startswith("src")]
    return {file for source in sources for file in (source.rglob("*.py") if source.is_dir() else [source])}


def imported(module: Path) -> Iterator[Path]:
    """The package's modules that a module imports, in functions too, with the packages that they are in."""
    package = module.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            source = (*start, *(node.module.split(".") if node.module else ()))
            names = [source, *((*source, alias.name) for alias in node.names)]
        else:
            continue
        for name in names:
            if name[0] != "shardmart":
                continue
            for depth in range(1, len(name) + 1):
                place = PACKAGE.parent.joinpath(*name[:depth])
                yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.parent.name)
def test_an_image_has_every_module_that_its_own_import(dockerfile: Path) -> None:
    has = copied(dockerfile)
    if has.issuperset(PACKAGE.rglob("*.py")):
        return
    lacking = {
        f"{module.relative_to(ROOT)} imports {needed.relative_to(ROOT)}"
        for module in has
        if module.is_relative_to(PACKAGE)
        for needed in imported(module)
        if needed not in has
    }
    assert not lacking
