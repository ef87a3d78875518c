"""Where the stores are and who opens them: one JSON file of mode 0600 that `make fragments` writes.

It holds no password, only the folder (`secrets/` beside it) whose files do.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from shardmart import libpq
from shardmart.errors import BadUseError, UnreachableError

from .money import BANDS, CATCH_ALL, Band

FILE = "fragments.json"
VERSION = 1
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}", re.ASCII)
DATABASE = "shop"
"""The database on every node."""
MONGODB_DATABASE = "fragments"
ADMIN, APPLICATION, PEER = "postgres", "shop", "peer"
"""Who converges and repairs; who reads and writes; who carries changes between the nodes."""
PASSWORDS = {
    ADMIN: "fragments-admin.password",
    APPLICATION: "fragments-app.password",
    PEER: "fragments-peer.password",
    "mongodb": "fragments-mongodb.password",
}


@dataclass(frozen=True)
class Node:
    """A region's server; its name is the region's."""

    name: str
    host: str
    port: int

    @property
    def word(self) -> str:
        """The name as a part of identifiers in SQL."""
        return self.name.lower()


@dataclass(frozen=True)
class Trust:
    """The file of the authority that signed the nodes' certificates, as a client and as a node finds it."""

    here: str
    on_nodes: str


@dataclass(frozen=True)
class Configuration:
    """Nodes, fragments, and the MongoDB beside them."""

    nodes: tuple[Node, ...]
    secrets: Path
    catch_all: bool = False
    mongodb: tuple[str, str | None] | None = None
    """Address of a router, and the file of the authority it is trusted by."""
    tls: Trust | None = None
    """None where the nodes speak no TLS."""

    @property
    def bands(self) -> tuple[Band, ...]:
        """Every fragment of Products; the catch-all, where it is switched on, is the last."""
        return (*BANDS, CATCH_ALL) if self.catch_all else BANDS

    def node(self, name: str) -> Node:
        """The node of this name; BadUseError for one that there is not."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadUseError(f"no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    def encrypted(self, *, from_node: bool = False) -> dict[str, str]:
        """`encryption` of a connection to a node, made here or by another node."""
        if self.tls is None:
            return {}
        return libpq.checked_by(self.tls.on_nodes if from_node else self.tls.here)

    def others(self, node: Node) -> tuple[Node, ...]:
        """The peers of a node."""
        return tuple(other for other in self.nodes if other != node)

    def password(self, user: str) -> str:
        """The password of a user; UnreachableError where its file is missing."""
        file = self.secrets / PASSWORDS[user]
        try:
            return file.read_text().strip()
        except OSError as error:
            raise UnreachableError(f"{file}: {error.strerror}: run `make fragments`") from None

    def mongodb_uri(self) -> str:
        """The connection string of the MongoDB beside. It holds the password: never print it."""
        if from_environment := os.environ.get("SHARDMART_FRAGMENTS_URI"):
            return from_environment
        if self.mongodb is None:
            raise BadUseError("the configuration names no MongoDB")
        address, authority = self.mongodb
        tls = f"&tls=true&tlsCAFile={quote_plus(authority)}" if authority else ""
        return f"mongodb://fragments:{quote_plus(self.password('mongodb'))}@{address}/?authSource=admin{tls}"


def find(file: Path | None = None) -> Configuration:
    """The configuration in `file`, else `$SHARDMART_FRAGMENTS`, else in the state folder as everywhere.

    Raises UnreachableError where there is none, BadUseError for one that makes no sense.
    """
    named = file or (Path(v) if (v := os.environ.get("SHARDMART_FRAGMENTS")) else None)
    path = named or Path(os.environ.get("SHARDMART_STATE") or ".shardmart") / FILE
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise UnreachableError(
            f"no fragments at {path}: run `make fragments`, or name another --configuration"
        ) from None
    except (OSError, ValueError) as error:
        raise BadUseError(f"{path}: cannot be read: {error}") from None
    return parse(document, path.absolute())


def parse(document: Any, path: Path) -> Configuration:
    """Check what was read from `path`."""
    try:
        if document["version"] != VERSION:
            raise BadUseError(f"{path}: version {document['version']}, expected {VERSION}: run `make fragments`")
        nodes = tuple(Node(str(n["name"]), str(n["host"]), int(n["port"])) for n in document["nodes"])
        mongodb, tls = document.get("mongodb"), document.get("tls")
        found = Configuration(
            nodes,
            path.parent / str(document.get("secrets", "secrets")),
            bool(document.get("catch_all", False)),
            (str(mongodb["address"]), mongodb.get("ca_file")) if mongodb else None,
            Trust(str(tls["ca_file"]), str(tls["nodes_ca_file"])) if tls else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadUseError(f"{path}: {type(error).__name__} {error}: not a configuration of fragments") from None
    if wrong := [node.name for node in nodes if not NAME.fullmatch(node.name)]:
        raise BadUseError(f"{path}: {wrong[0]!r} is not a name of a node: letters, then letters, digits and _")
    homes = {band.region for band in found.bands}
    if missing := homes - {node.name for node in nodes}:
        raise BadUseError(f"{path}: no node {', '.join(sorted(missing))}, where a price fragment lives")
    return found
