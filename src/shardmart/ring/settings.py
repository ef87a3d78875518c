"""The settings of a ring: what a client is told from outside.  Connection strings come from here and nowhere else.

A file of settings is JSON and holds passwords, so its mode is 0600 (`make ring` writes one for each ring).  With
`password_file` (relative to it) it holds none: `{password}` in its connection strings stands for what that file holds,
and `{folder}` for the folder of both (an authority's certificate may lie there, too).  On Kubernetes they are a
ConfigMap beside a mounted Secret.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import SettingsError

DEFAULT_TIMEOUT_SECONDS = 1.0
FILE = "settings.json"
NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """Where a ring is.

    `nodes` name → connection string of exactly one server; `store` the connection string of the deployment that keeps
    the membership.  `required_copies` is on how many different nodes a write must be journalled, hints included, before
    it is acknowledged: by default 2, or 1 in a ring that keeps one copy.
    """

    name: str
    nodes: Mapping[str, str] = field(repr=False)
    store: str = field(repr=False)
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    required_copies: int | None = None

    @property
    def database(self) -> str:
        """The database of the ring, on its nodes and in the store."""
        return f"ring_{self.name}"

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").replace("-", "").isalnum() or len(self.name) > 40:
            raise SettingsError(f"name: {self.name!r} is not the name of a ring: letters, digits, - and _, at most 40")
        if not self.nodes:
            raise SettingsError("nodes: a ring needs at least one node")
        for node in self.nodes:
            if not NODE_NAME.fullmatch(node):  # a name is part of a path in the membership's document
                raise SettingsError(f"nodes: {node!r} is not the name of a node: letters, digits, - and _, at most 40")
        if self.required_copies is not None and not 1 <= self.required_copies <= len(self.nodes):
            raise SettingsError(
                f"required_copies: {self.required_copies} on {len(self.nodes)} nodes: at least 1, at most one for each"
            )
        seconds = self.timeout_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise SettingsError(f"timeout_seconds: expected seconds, more than 0, found {self.timeout_seconds!r}")
        strings = {"store": self.store} | {f"nodes.{node}": uri for node, uri in self.nodes.items()}
        for what, given in strings.items():
            if not isinstance(given, str) or not given:
                raise SettingsError(f"{what}: a connection string is expected")
        uris: dict[str, str] = {}
        for node, uri in self.nodes.items():
            if uri in uris:
                raise SettingsError(
                    f"nodes: {uris[uri]} and {node} are one server, each needs a connection string of its own"
                )
            uris[uri] = node


def read(path: Path) -> Settings:
    """The settings in a file; SettingsError names the file and what is wrong with it."""
    try:
        document = json.loads(path.read_text())
        if isinstance(document, dict) and "password_file" in document:
            document = _filled(document, path.parent)
        return Settings(**document)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}; `make ring` writes it") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not text (UTF-8)") from None
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}: is not JSON: {error}") from None
    except (TypeError, AttributeError):
        given = set(document) if isinstance(document, dict) else set()
        expected = {one.name for one in fields(Settings)}
        odd = [f"{key} is missing" for key in ("name", "nodes", "store") if key not in given]
        odd += [f"{key} is unknown" for key in sorted(given - expected)]
        raise SettingsError(
            f"{path}: {', '.join(odd) or 'a value is of another type'}; expected name, nodes (name to connection "
            "string), store, and if need be timeout_seconds, required_copies"
        ) from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _filled(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with the password and the folder in its connection strings."""
    file = folder / document.pop("password_file")
    try:
        if file.stat().st_mode & 0o007:
            raise SettingsError(f"{file} is a secret and everybody may read it")
        password = quote(file.read_text().strip(), safe="")
    except OSError as error:
        raise SettingsError(f"password_file: cannot be read: {error.strerror}") from None

    def filled(uri: str) -> str:
        return uri.replace("{folder}", quote(str(folder.absolute()))).replace("{password}", password)

    nodes = {name: filled(uri) for name, uri in document.get("nodes", {}).items()}
    return document | {"nodes": nodes, "store": filled(document.get("store", ""))}


def find(folder: Path, ring: str | None = None) -> Path:
    """The file of a ring's settings in a folder of rings (`NAME/settings.json`); the only one there is when none is
    named.  SettingsError when there is none, or more than one."""
    if ring:
        return folder / ring / FILE
    known = sorted(folder.glob(f"*/{FILE}"))
    if len(known) != 1:
        names = ", ".join(one.parent.name for one in known)
        raise SettingsError(
            f"there are several rings in {folder}: name one of {names} (--ring NAME)"
            if known
            else f"there is no ring in {folder}: `make ring` starts those of the topology, or name a file of settings"
        )
    return known[0]
