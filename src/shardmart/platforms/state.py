"""The state folder: secrets, and what `provision` wrote about the cluster it made.

Everything the embedded platform keeps lives in one folder of mode 0700 (default `.shardmart/` in the working
directory or above it, or `$SHARDMART_STATE`).  A laptop keeps there what it knows of a cluster on Kubernetes, and the
chart's pods mount one, so every `shardmart` command finds the cluster the same way.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

from ..cluster import description
from ..cluster.description import Cluster
from ..cluster.shop import Shop
from ..declare import release
from ..errors import UnreachableError
from .platform import play_of

DESCRIPTION = "cluster.json"
DEFAULT_FOLDER = ".shardmart"


class StateError(UnreachableError):
    """The state folder does not hold what was asked for; the message says what to do."""


@dataclass(frozen=True)
class State:
    """A state folder.  Nothing is read before it is asked for."""

    folder: Path

    @classmethod
    def find(cls, folder: Path | None = None) -> State:
        """The folder given, else `$SHARDMART_STATE`, else `.shardmart` in the working directory or the nearest one
        above it where this user has a cluster (somebody else's could lead anywhere)."""
        if folder or (named := os.environ.get("SHARDMART_STATE")):
            return cls((folder or Path(named or "")).absolute())
        here = Path(DEFAULT_FOLDER).absolute()
        above = (cls(parent / DEFAULT_FOLDER) for parent in here.parents)
        return next((state for state in above if state.is_own_cluster()), cls(here))

    @property
    def keyfile(self) -> Path:
        """The keyfile members authenticate each other with."""
        return self.folder / "secrets" / "keyfile"

    def description(self) -> Cluster:
        """The cluster that `provision` made, or in a pod of the chart the one that its release is.

        StateError when there is none, DescriptionError when it makes no sense.
        """
        for file, read in ((DESCRIPTION, description.read), (release.RELEASE_FILE, release.read)):
            with suppress(FileNotFoundError):
                return read(self.folder / file)
        raise StateError(
            f"no cluster in {self.folder}: run `make up` (or `make shop`) first, or say where it is (--state, or "
            "SHARDMART_STATE)"
        )

    def describes_a_cluster(self) -> bool:
        """Whether there is a description; nothing of it is read."""
        return any((self.folder / file).exists() for file in (DESCRIPTION, release.RELEASE_FILE))

    def is_own_cluster(self) -> bool:
        """Whether this user owns the folder and there is a description in it."""
        try:
            return self.folder.stat().st_uid == os.geteuid() and self.describes_a_cluster()
        except OSError:
            return False

    @property
    def authority(self) -> Path | None:
        """The certificate of the authority that clients trust; None when the cluster does not speak TLS."""
        if not self.description().tls.spoken:
            return None
        file = self.folder / "tls" / "ca.pem"
        if not file.exists():
            raise StateError(f"the cluster speaks TLS and {file} is missing: run {play_of(self.description())}")
        return file

    @property
    def cache_authority(self) -> Path | None:
        """The authority of the certificate of the shop's cache, None where that speaks no TLS."""
        described = self.description()
        if described.shop is None or not described.shop.cache_speaks_tls:
            return None
        return self.authority if described.kubernetes is None else self._of_the_shop("cache", described)

    def _of_the_shop(self, part: str, described: Cluster) -> Path:
        """The authority of a part of the shop in pods, which the toolbox mounts once the shop's release has made it."""
        file = self.folder / "tls" / f"shop-{part}-ca.pem"
        if not file.exists():
            raise StateError(f"the shop's {part} speaks TLS and {file} is missing: run {play_of(described)}")
        return file

    @property
    def store_authority(self) -> Path | None:
        """The authority of the certificate of the shop's PostgreSQL; None where it has none, or nobody knows whose.

        Of ours it is the cluster's on one machine, and on Kubernetes one of its own, which the chart's toolbox mounts.
        """
        described = self.description()
        if described.shop is None or not described.shop.backends.tls:
            return None
        ours = described.shop.backends.postgres_is_ours
        if described.kubernetes is None:
            return self.authority if ours else None
        if ours:
            return self._of_the_shop("postgres", described)
        given = self.folder / "tls" / "shop-postgres-ca.pem"
        return given if given.exists() else None

    def password(self, user: str) -> str:
        """The generated password of `user`."""
        try:
            return (self.folder / "secrets" / f"{user}.password").read_text().strip()
        except FileNotFoundError:
            again = play_of(self.description(), shop=user.startswith("shop-"))
            raise StateError(f"no password of {user} in {self.folder / 'secrets'}: run {again}") from None

    def uri(self, user: str) -> str:
        """A connection string for `user` through every router. It holds the password: never print it."""
        return uri_of(self.description(), user, self.password(user), self.authority)


def uri_of(cluster: Cluster, user: str, password: str, authority: Path | None) -> str:
    """A connection string through every router; `authority` where they speak TLS.  It holds the password."""
    routers = ",".join(router.address for router in cluster.routers)
    tls = f"&tls=true&tlsCAFile={quote_plus(str(authority))}" if authority else ""
    return f"mongodb://{user}:{quote_plus(password)}@{routers}/?authSource=admin{tls}"


def cache_url(shop: Shop, user: str, password: str, authority: Path | None) -> str:
    """Where the shop's cache is, every node of a cluster; `authority` is used where it speaks TLS.  It holds the
    password."""
    nodes = ",".join(node.address for node in shop.caches)
    scheme, end = ("rediss", f"?ssl_ca_certs={quote(str(authority))}") if shop.cache_speaks_tls else ("redis", "")
    return f"{scheme}://{user}:{password}@{nodes}/0{end}"


def resolve_uri(uri: str | None = None, uri_file: Path | None = None, *, user: str, state: Path | None = None) -> str:
    """The connection string: `uri`, else the content of `uri_file`, else `$SHARDMART_URI`, else the state folder's.

    Raises StateError when none of them says where the cluster is.
    """
    if uri:
        return uri
    if uri_file:
        try:
            return uri_file.read_text().strip()
        except OSError as error:
            raise StateError(f"cannot read the URI file {uri_file}: {error.strerror}") from None
    if from_environment := os.environ.get("SHARDMART_URI"):
        return from_environment
    return State.find(state).uri(user)
