"""Where Kafka's programs are: Java of this machine, and Kafka's jars, fetched by Maven and held to their hashes.

Maven fetches from wherever this machine's settings say.  A jar that is not the pinned one is an error, never a reason
to look elsewhere; the jars may be put into their folder by hand, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...cluster.errors import ClusterError
from .pins import JARS, POM

JAVA_VERSION = 17
"""Kafka 4 brokers need it (its documentation, "Compatibility")."""
FETCH_SECONDS = 900
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"


class MissingError(ClusterError):
    """What Kafka needs of this machine is not there, or cannot be fetched; the message says what to do."""


def java() -> str:
    """Path of a Java that runs Kafka, from $JAVA_HOME or PATH; ClusterError, in a line, where there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    instead = f"install Java {JAVA_VERSION} or newer, or leave the topology's events in MongoDB (event_log: mongodb)"
    if found is None:
        raise MissingError(f"Kafka needs Java, and there is none {f'in {home}' if home else 'on PATH'}: {instead}")
    version = _version(found)
    if version < JAVA_VERSION:
        raise MissingError(
            f"Kafka needs Java {JAVA_VERSION}, and {found} is {version or 'no Java that runs'}: {instead}"
        )
    return found


@cache
def _version(program: str) -> int:
    try:
        said = subprocess.run([program, "-version"], check=True, capture_output=True, text=True, timeout=60).stderr  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def folder(binaries: Path) -> Path:
    """Where the jars are in the folder of what was fetched: another one for every lock."""
    return binaries / f"kafka-{hashlib.sha256(repr(sorted(JARS.items())).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Jars:
    """The folder of the jars, and whether they were, or in check mode would be, fetched now."""

    folder: Path
    fetched: bool


def fetch(binaries: Path, *, check_mode: bool = False) -> Jars:
    """Have the jars of the lock.  ClusterError when they cannot be fetched, or are not those that are pinned."""
    place = folder(binaries)
    if place.exists():
        verify(place)
        return Jars(place, fetched=False)
    if not check_mode:
        binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=binaries, prefix=".fetching-") as temporary:
            partial = Path(temporary) / "jars"
            _run_maven(Path(temporary), partial, place)
            verify(partial)
            try:
                partial.rename(place)
            except OSError:
                verify(place)  # another run was quicker
    return Jars(place, fetched=True)


def verify(place: Path) -> None:
    """ClusterError unless the folder has the jars of the lock and no others."""
    expected = JARS
    found = {path.name: path for path in place.glob("*.jar")}
    if missing := sorted(set(expected) - set(found)):
        raise ClusterError(f"{place} lacks {', '.join(missing)}: remove the folder, and they are fetched anew")
    if strangers := sorted(set(found) - set(expected)):
        raise ClusterError(f"{place} has {', '.join(strangers)}, which pins.py does not name: remove them")
    for name, digest in expected.items():
        with found[name].open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != digest:
            raise ClusterError(f"{found[name]}: sha256 is {sha256}, expected {digest}; it is not used")


def _run_maven(folder_of_pom: Path, destination: Path, place: Path) -> None:
    by_hand = f"or put the {len(JARS)} jars of pins.py into {place}"
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError(f"Kafka's jars are fetched by Maven, and mvn is not on PATH: install it, {by_hand}")
    pom = folder_of_pom / "pom.xml"
    pom.write_text(POM)
    command = [maven, "--batch-mode", "--quiet", "--file", str(pom), PLUGIN]
    try:
        subprocess.run(  # noqa: S603
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={destination}"],
            check=True, capture_output=True, text=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stdout.splitlines() if "ERROR" in line] or ["it said nothing"]
        raise MissingError(f"Maven cannot fetch Kafka's jars: {said[0][:300]}; {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise MissingError(
            f"Maven did not fetch Kafka's jars within {FETCH_SECONDS} s; run it again, {by_hand}"
        ) from None
