"""What Maven fetches for this machine, held to its hash.

Maven fetches from wherever this machine's settings say.  A file that is not the pinned one is an error, never a reason
to look elsewhere; what was fetched may be put into its folder by hand, too.  Nothing here knows what is in a file.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..cluster.errors import ClusterError

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"


class MissingError(ClusterError):
    """A program or a file that this machine lacks and that cannot be fetched; the message says what to do."""


class Artifact(NamedTuple):
    """What Maven is asked for."""

    group: str
    name: str
    version: str


@dataclass(frozen=True)
class Jars:
    """The folder of the jars, and whether they were, or in check mode would be, fetched now."""

    folder: Path
    fetched: bool


@dataclass(frozen=True)
class Lock:
    """Artifacts, and each jar that comes with them, by its name and SHA-256."""

    name: str
    """Of the program, as in "Kafka"; its folder is called so in small letters."""
    artifacts: list[Artifact]
    jars: Mapping[str, str]

    def folder(self, binaries: Path) -> Path:
        """Where the jars are in the folder of what was fetched: another one for every lock."""
        digest = hashlib.sha256(repr(sorted(self.jars.items())).encode()).hexdigest()
        return binaries / f"{self.name.lower()}-{digest[:12]}"

    def fetch(self, binaries: Path, *, seconds: float, check_mode: bool = False) -> Jars:
        """Have the jars, fetched within so many seconds.

        ClusterError when they cannot be, or are not those that are pinned.
        """
        place = self.folder(binaries)
        if place.exists():
            self.verify(place)
            return Jars(place, fetched=False)
        if not check_mode:
            binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=binaries, prefix=".fetching-") as temporary:
                partial = Path(temporary) / "jars"
                by_hand = f"or put the {len(self.jars)} jars of pins.py into {place}"
                fetch(self.artifacts, partial, name=f"{self.name}'s jars", instead=by_hand, seconds=seconds)
                self.verify(partial)
                try:
                    partial.rename(place)
                except OSError:
                    self.verify(place)  # another run was quicker
        return Jars(place, fetched=True)

    def verify(self, place: Path) -> None:
        """ClusterError unless the folder has the jars of the lock and no others."""
        found = {path.name: path for path in place.glob("*.jar")}
        if missing := sorted(set(self.jars) - set(found)):
            raise ClusterError(f"{place} lacks {', '.join(missing)}: remove the folder, and they are fetched anew")
        if strangers := sorted(set(found) - set(self.jars)):
            raise ClusterError(f"{place} has {', '.join(strangers)}, which pins.py does not name: remove them")
        for name, digest in self.jars.items():
            verify(found[name], digest)


def fetch(artifacts: list[Artifact], folder: Path, *, name: str, instead: str, seconds: float) -> None:
    """Fetch artifacts, and the jars that they need when they run, into a new folder within another that is there.

    `name` is what they are called in messages, as in "Kafka's jars", and `instead` what else a person can do: "or put
    …".  MissingError when there is no Maven, it fails, or is not done within so many seconds.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError(f"Maven fetches {name}, and mvn is not on PATH: install it, {instead}")
    pom = folder.with_name("pom.xml")
    pom.write_text(project(artifacts))
    command = [maven, "--batch-mode", "--quiet", "--file", str(pom), PLUGIN]
    try:
        subprocess.run(  # noqa: S603
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"],
            check=True, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stdout.splitlines() if "ERROR" in line] or ["it said nothing"]
        raise MissingError(f"Maven cannot fetch {name}: {said[0][:300]}; {instead}") from None
    except subprocess.TimeoutExpired:
        raise MissingError(f"Maven did not fetch {name} within {seconds:.0f} s; run it again, {instead}") from None


def project(artifacts: list[Artifact]) -> str:
    """The project that Maven reads, a pom.xml, of these dependencies."""
    dependencies = "".join(
        f"    <dependency>\n      <groupId>{group}</groupId>\n      <artifactId>{artifact}</artifactId>\n"
        f"      <version>{version}</version>\n    </dependency>\n"
        for group, artifact, version in artifacts
    )
    return f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>shardmart</groupId>
  <artifactId>fetched</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}  </dependencies>
</project>
"""


def verify(file: Path, sha256: str) -> None:
    """ClusterError unless the file is the one with this SHA-256."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise ClusterError(f"{file}: sha256 is {found}, expected {sha256}; it is not used")
