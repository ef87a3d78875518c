"""What a member of the embedded platform is started with."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import TlsSettings
from shardmart.cluster.host import processes
from shardmart.cluster.host.processes import Process
from shardmart.declare import topology
from shardmart.platforms import embedded, repair_timer
from shardmart.platforms.standalone import Standalone
from tests.support.processes import rests

ROOT = Path(__file__).parents[3]
CLUSTER = topology.load(ROOT / "inventories" / "topology.yml").resolve()


def configuration(name: str, mongos: str | None = None) -> dict[str, Any]:
    found = {p.name: p for p in embedded.processes(CLUSTER, Path("/state"), {"mongod": "/m/mongod", "mongos": mongos})}
    text = found[name].configuration
    assert text
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def test_every_member_listens_on_loopback_with_authentication() -> None:
    for member in ("configsvr2", "shard1-1", "shard2-3"):
        document = configuration(member)
        assert document["net"]["bindIp"] == "127.0.0.1"
        assert document["security"] == {"authorization": "enabled", "keyFile": "/state/secrets/keyfile"}


def test_localhost_exception_is_closed_everywhere() -> None:
    standalone = Standalone("node", 1).process(Path("/ring"), "/m/mongod").configuration
    assert standalone
    for document in (configuration("configsvr1"), configuration("shard1-1"), yaml.safe_load(standalone)):
        assert document["setParameter"]["enableLocalhostAuthBypass"] is False
        assert document["security"]["keyFile"]


def test_a_quiet_set_notes_the_time_every_second() -> None:
    for member in ("configsvr1", "shard1-1"):
        assert configuration(member)["setParameter"]["periodicNoopIntervalSecs"] == 1


def test_no_member_counts_everything_every_second_for_the_vendor() -> None:
    standalone = Standalone("node", 1).process(Path("/ring"), "/m/mongod").configuration
    assert standalone
    for document in (configuration("configsvr1"), configuration("shard2-3"), yaml.safe_load(standalone)):
        assert document["setParameter"]["diagnosticDataCollectionEnabled"] is False


def test_cache_comes_from_the_topology() -> None:
    assert configuration("shard1-1")["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == 0.25


def test_every_member_has_small_journals() -> None:
    for member in ("configsvr1", "shard1-1", "shard2-3"):
        engine = configuration(member)["storage"]["wiredTiger"]["engineConfig"]
        assert engine["configString"] == f"log=(prealloc=false,file_max={embedded.JOURNAL_MB}MB)"


def test_router_is_mongos_where_there_is_one() -> None:
    document = configuration("mongos1", mongos="/m/mongos")
    assert document["sharding"]["configDB"] == "configReplSet/127.0.0.1:27101,127.0.0.1:27102,127.0.0.1:27103"
    found = {p.name: p for p in embedded.processes(CLUSTER, Path("/state"), {"mongod": "/m/mongod", "mongos": None})}
    command = found["mongos1"].command
    assert command[1:3] == ("-m", "shardmart.router")
    assert command[command.index("--configdb") + 1] == document["sharding"]["configDB"]


def test_no_command_line_configuration_or_environment_holds_a_secret(tmp_path: Path) -> None:
    secrets = {name: f"the-content-of-{name}" for name in ("keyfile", "admin.password", "ledger.password")}
    (tmp_path / "secrets").mkdir()
    for name, content in secrets.items():
        (tmp_path / "secrets" / name).write_text(content)
    for process in embedded.processes(CLUSTER, tmp_path, {"mongod": "/m/mongod", "mongos": None}):
        told = [*process.command, process.configuration or "", *process.environment.values()]
        assert [content for content in secrets.values() if content in " ".join(told)] == []
        assert str(tmp_path / "secrets" / "keyfile") in " ".join(told), "where it is, is told"
        assert process.marker in process.command


def test_without_tls_nothing_mentions_it() -> None:
    for process in embedded.processes(CLUSTER, Path("/state"), {"mongod": "/m/mongod", "mongos": None}):
        # Without the program: its folder may be called anything.
        assert "tls" not in (process.configuration or "") + " ".join(process.command[1:]).lower()


@pytest.mark.parametrize("mongos", ["/m/mongos", None])
def test_with_tls_members_and_routers_require_it_and_keep_the_keyfile(mongos: str | None) -> None:
    cluster = replace(CLUSTER, tls=TlsSettings("requireTLS"))
    for process in embedded.processes(cluster, Path("/state"), {"mongod": "/m/mongod", "mongos": mongos}):
        if process.configuration:
            document = yaml.safe_load(process.configuration)
            assert document["net"]["tls"] == {
                "mode": "requireTLS",
                "certificateKeyFile": "/state/tls/server.pem",
                "CAFile": "/state/tls/ca.pem",
                "allowConnectionsWithoutCertificates": True,
            }
            assert document["security"]["keyFile"] == "/state/secrets/keyfile"
        else:
            command = process.command
            assert command[command.index("--tlsMode") + 1] == "requireTLS"
            assert command[command.index("--tlsCertificateKeyFile") + 1] == "/state/tls/server.pem"
            assert command[command.index("--keyFile") + 1] == "/state/secrets/keyfile"


@pytest.mark.parametrize("as_recorded", [False, True])
def test_routers_end_first_and_config_servers_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_recorded: bool
) -> None:
    declared = embedded.processes(CLUSTER, tmp_path, {"mongod": "/m/mongod", "mongos": None})
    if as_recorded:  # a server of an earlier topology is known by its files alone
        for process in declared:
            processes.write_configuration(process)
        declared = [replace(process, configuration=None, configuration_file=None) for process in declared]
    told: list[list[str]] = []

    def stop(some: list[Process], *, wait_seconds: float) -> list[str]:
        assert 0 < wait_seconds <= 60
        told.append([one.name for one in some])
        return told[-1]

    monkeypatch.setattr(embedded, "stop", stop)
    names = embedded.stop_in_order(declared)
    assert told == [
        ["mongos1"],
        ["shard1-1", "shard1-2", "shard1-3", "shard2-1", "shard2-2", "shard2-3"],
        ["configsvr1", "configsvr2", "configsvr3"],
    ]
    assert names == [name for some in told for name in some]


def test_the_timer_of_the_fragments_is_no_router_that_the_topology_has_no_more(tmp_path: Path) -> None:
    """Both keep their pid file in one folder: `make up` after `make fragments` would stop the timer."""
    (tmp_path / "run").mkdir()
    timer = repair_timer.process(tmp_path, 60)
    router = Process(
        "mongos9", (sys.executable, "-m", "shardmart.router", "--logpath", "x"), "127.0.0.1", 1, "x",
        tmp_path / "run" / "mongos9.pid", tmp_path / "x",
    )  # fmt: skip
    with ExitStack() as stack:
        for process, option in ((timer, "--lock"), (router, "--logpath")):
            live = stack.enter_context(rests(option, process.marker))
            stack.callback(live.kill)
            process.pid_file.write_text(f"{live.pid}\n")
            processes.remember(process)
            assert process.running()
        assert [found.name for found in embedded.left_over((), tmp_path)] == ["mongos9"]
