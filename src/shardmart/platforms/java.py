"""Which Java this machine has.  Nothing here fetches one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache

from .maven import MissingError


def java(version: int, *, who: str, instead: str = "") -> str:
    """Path of a Java of this version or a newer one, from $JAVA_HOME or PATH, for `who`, as in "Kafka".

    MissingError, in a line, where there is none; `instead` is what else a person can do: ", or leave …".
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    todo = f"install Java {version} or newer{instead}"
    if found is None:
        raise MissingError(f"{who} needs Java, and there is none {f'in {home}' if home else 'on PATH'}: {todo}")
    there = _version(found)
    if there < version:
        raise MissingError(f"{who} needs Java {version}, and {found} is {there or 'no Java that runs'}: {todo}")
    return found


@cache
def _version(program: str) -> int:
    try:
        said = subprocess.run([program, "-version"], check=True, capture_output=True, text=True, timeout=60).stderr  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0
