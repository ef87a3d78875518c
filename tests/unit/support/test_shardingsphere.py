"""What ShardingSphere-Proxy is told for tests, and what is said where it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmart.cluster.errors import ClusterError
from shardmart.shop.adapters.postgres.flavours import DISTRIBUTION, REFERENCE
from tests.support.shardingsphere import pins, proxy
from tests.support.shardingsphere.configuration import SCHEMAS, server_of, sharding, write


@pytest.mark.parametrize("program", ["java", "mvn"])
def test_without_java_or_maven_tests_are_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    if program == "mvn":
        (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"17.0.2\"' >&2\n")
        (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(proxy, "CACHE", tmp_path / "binaries")
    why = {
        "java": "ShardingSphere-Proxy needs Java",
        "mvn": "Maven fetches ShardingSphere's jars, and mvn is not on PATH",
    }
    with pytest.raises(pytest.skip.Exception, match=f"no ShardingSphere-Proxy on this machine: {why[program]}"):
        proxy.have_programs()


def test_a_jar_that_is_not_the_pinned_one_is_not_used(tmp_path: Path) -> None:
    for name in pins.JARS:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ClusterError, match=r"sha256 is .*, expected .*; it is not used"):
        pins.LOCK.verify(tmp_path)


def test_the_rules_are_the_distribution_of_the_flavours() -> None:
    rule = sharding(SCHEMAS[0], 3)
    columns = {table: each["databaseStrategy"]["standard"]["shardingColumn"] for table, each in rule["tables"].items()}
    assert columns == DISTRIBUTION
    assert rule["broadcastTables"] == list(REFERENCE)
    bound = [set(tables.split(",")) for tables in rule["bindingTables"]]
    assert {"events", "event_places"} in bound
    assert {frozenset(DISTRIBUTION[table] for table in tables) for tables in bound} == {
        frozenset([column]) for column in ("id", "place", "key", "service")
    }


def test_passwords_lie_in_files_that_nobody_else_reads(tmp_path: Path) -> None:
    write(tmp_path, SCHEMAS, [1, 2, 3], ("own-secret", "servers-secret"))
    files = {file for file in tmp_path.iterdir() if "secret" in file.read_text()}
    assert {file.name for file in files} == {"server.yaml", "config-shop.yaml", "config-catalogue.yaml"}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(("text", "hashed"), [("", 0), ("hello", 99162322), ("polygenelubricants", 2**31)])
def test_a_text_lies_where_javas_hash_says(text: str, hashed: int) -> None:
    assert [server_of(text, servers) for servers in (2, 3, 7)] == [hashed % servers for servers in (2, 3, 7)]
