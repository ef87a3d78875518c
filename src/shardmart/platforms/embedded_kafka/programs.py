"""Where Kafka's programs are: Java of this machine, and Kafka's jars, fetched by Maven and held to their hashes."""

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
from .. import maven
from ..maven import MissingError
from .pins import ARTIFACTS, JARS

JAVA_VERSION = 17
"""Kafka 4 brokers need it (its documentation, "Compatibility")."""
FETCH_SECONDS = 900


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
            by_hand = f"or put the {len(JARS)} jars of pins.py into {place}"
            maven.fetch(ARTIFACTS, partial, name="Kafka's jars", instead=by_hand, seconds=FETCH_SECONDS)
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
        maven.verify(found[name], digest)
