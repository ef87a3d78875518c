"""Where Kafka's programs are: Java of this machine, and Kafka's jars, fetched by Maven and held to their hashes."""

from __future__ import annotations

from pathlib import Path

from ..java import java as java_of
from ..maven import Jars, Lock
from .pins import ARTIFACTS, JARS

JAVA_VERSION = 17
"""Kafka 4 brokers need it (its documentation, "Compatibility")."""
FETCH_SECONDS = 900
LOCK = Lock("Kafka", ARTIFACTS, JARS)


def java() -> str:
    """Path of a Java that runs Kafka, from $JAVA_HOME or PATH; ClusterError, in a line, where there is none."""
    instead = ", or leave the topology's events in MongoDB (event_log: mongodb)"
    return java_of(JAVA_VERSION, who="Kafka", instead=instead)


def fetch(binaries: Path, *, check_mode: bool = False) -> Jars:
    """Have the jars of the lock.  ClusterError when they cannot be fetched, or are not those that are pinned."""
    return LOCK.fetch(binaries, seconds=FETCH_SECONDS, check_mode=check_mode)
