"""One thing of the server that the code uses, and where; and the files that are looked at.

Looked at is everything that meets a real server of MongoDB.  The development router is not: it speaks the servers'
internal protocol and is only ever put in front of 6.0.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
LOOKED_AT = (
    "src/shardmart",
    "plugins",
    "loader",
    "chaos",
    "roles",
    "playbooks",
    "site.yml",
    "helm",
    "k8s",
    "inventories",
)
LEFT_OUT = ("src/shardmart/router/", "helm/schemas/", "helm/sharded-mongodb/tests/", "src/shardmart/declare/schemas/")


class Kind(StrEnum):
    """What sort of thing it is; the order is the page's."""

    COMMAND = "command"
    PARAMETER = "server parameter"
    CONFIGURATION = "configuration key"
    CONFIG_FIELD = "field of config.*"
    ROLE = "role"
    ACTION = "privilege action"
    ERROR_CODE = "error code"


@dataclass(frozen=True, order=True)
class Use:
    """`name` of the server stands in the file `path` (below the checkout) on `line`."""

    kind: Kind
    name: str
    path: str
    line: int


def files(*suffixes: str, root: Path = ROOT) -> Iterator[Path]:
    """The files under version control, or about to be, that are looked at, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *LOOKED_AT],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in sorted(listed):
        path = root / name
        if name.endswith(suffixes) and not name.startswith(LEFT_OUT) and path.is_file() and not path.is_symlink():
            yield path


def by_name(uses: Iterable[Use]) -> dict[tuple[Kind, str], list[Use]]:
    """The uses of each thing; kinds in their order, names sorted (numbers as numbers)."""
    grouped: dict[tuple[Kind, str], list[Use]] = {}
    for use in sorted(set(uses)):
        grouped.setdefault((use.kind, use.name), []).append(use)
    order = list(Kind)
    return dict(
        sorted(
            grouped.items(),
            key=lambda item: (
                order.index(item[0][0]),
                item[0][1].rjust(8) if item[0][1].isdigit() else item[0][1].lower(),
            ),
        )
    )


def yaml_documents(text: str) -> list[yaml.Node | None]:
    """The documents of a file as nodes, which know their lines; none where it is a template of Helm or Ansible."""
    try:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        return []
