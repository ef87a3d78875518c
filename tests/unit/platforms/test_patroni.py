"""Claims of the store under Patroni that need no server: what each process is told, and what it runs with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.observe import patroni as observe
from shardmart.cluster.shop import Instance
from shardmart.declare.topology import load
from shardmart.platforms import patroni, postgres
from shardmart.platforms.patroni import programs
from shardmart.platforms.patroni.cluster import PASSWORDS
from shardmart.platforms.patroni.settings import DYNAMIC

TOPOLOGY = Path(__file__).parents[3] / "inventories" / "topologies" / "shop-patroni.yml"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> patroni.Store:
    monkeypatch.setenv("SHARDMART_POSTGRES_HOME", str(tmp_path / "homes"))
    monkeypatch.setattr(postgres.Host, "program", lambda *_, **__: Path("/opt/postgres/bin/postgres"))
    state = tmp_path / "state"
    (state / "secrets").mkdir(parents=True)
    for name in PASSWORDS.values():
        (state / "secrets" / f"{name}.password").write_text(f"of-{name}\n")
    shop = load(TOPOLOGY).resolve().shop
    assert shop
    return patroni.Store.of(shop, state)


def test_every_process_listens_on_loopback_and_asks_who_is_there(store: patroni.Store) -> None:
    told = store.configurations()
    assert list(told) == [f"shop-{kind}-{n}" for kind in ("etcd", "postgres") for n in (1, 2, 3)]
    for n in (1, 2, 3):
        member, node = told[f"shop-etcd-{n}"], told[f"shop-postgres-{n}"]
        assert member["listen-client-urls"] == f"http://127.0.0.1:{2378 + n}"
        assert member["listen-peer-urls"] == f"https://127.0.0.1:{2388 + n}"
        assert member["peer-transport-security"]["client-cert-auth"] is True
        assert node["postgresql"]["listen"] == f"127.0.0.1:{5431 + n}"
        assert node["restapi"]["listen"] == f"127.0.0.1:{5441 + n}"
        assert node["restapi"]["authentication"]["password"] == "of-shop-patroni"
        assert (node["etcd3"]["username"], node["etcd3"]["password"]) == ("patroni", "of-shop-etcd-patroni")
        assert {line.rpartition(" ")[2] for line in node["postgresql"]["pg_hba"]} == {"scram-sha-256"}
        logins = [login["password"] for login in node["postgresql"]["authentication"].values()]
        assert len({*logins, "of-shop-patroni", "of-shop-etcd-patroni"}) == 5, "each has a password of its own"


def test_with_tls_nobody_comes_without_it_and_nodes_check_whom_they_follow(store: patroni.Store) -> None:
    plain, spoken = store.configurations(), replace(store, tls=True).configurations()
    for node in store.nodes:
        before, after = plain[node.name]["postgresql"], spoken[node.name]["postgresql"]
        folder = store.place(node).folder
        assert [line.split()[0] for line in before["pg_hba"]] == ["host", "host"]
        assert [line.split()[0] for line in after["pg_hba"]] == ["hostssl", "hostssl"]
        assert after["parameters"].items() - before["parameters"].items() == {
            ("ssl", "on"),
            ("ssl_cert_file", str(folder / "server.pem")),
            ("ssl_key_file", str(folder / "server.pem")),
        }
        for user, login in after["authentication"].items():
            checked = {"sslmode": "verify-full", "sslrootcert": str(folder / "authority.pem")}
            assert login.items() - before["authentication"][user].items() == checked.items()
        assert {Path(tool).is_relative_to(store.host.home) for tool in after["bin_name"].values()} == {True}
        assert "bin_name" not in before


def test_no_commit_is_answered_before_a_second_server_has_it_and_the_lease_outlives_slow_questions() -> None:
    assert (DYNAMIC["synchronous_mode"], DYNAMIC["synchronous_mode_strict"]) == ("quorum", True)
    assert DYNAMIC["loop_wait"] + 2 * DYNAMIC["retry_timeout"] <= DYNAMIC["ttl"]


def test_a_password_that_is_missing_is_one_line(store: patroni.Store) -> None:
    (store.state / "secrets" / "shop-etcd.password").unlink()
    with pytest.raises(ClusterError, match=r"shop-etcd\.password: No such file or directory: run `make shop`"):
        store.configurations()


def test_without_etcd_and_go_one_line_says_what_to_install(
    store: patroni.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SHARDMART_BINARIES", str(tmp_path / "binaries"))
    with pytest.raises(ClusterError) as said:
        programs.have_etcd(store.host)
    assert str(said.value) == (
        "Patroni needs etcd, and neither etcd 3.5 nor go, which builds it, is on PATH: install etcd 3.5 or newer or Go "
        "1.26.0, or leave the topology's `postgres_nodes` at 1"
    )


@pytest.mark.parametrize(("version", "taken"), [("3.4.23", False), ("3.5.0", True), ("3.10.1", True)])
def test_an_etcd_on_path_is_taken_when_it_is_new_enough(
    store: patroni.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, taken: bool
) -> None:
    program = tmp_path / "etcd"
    program.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SHARDMART_BINARIES", str(tmp_path / "binaries"))
    monkeypatch.setattr(postgres.Host, "account", None)
    assert programs.etcd(store.host) == (program if taken else None)


def test_nothing_of_the_caller_s_environment_leads_patroni_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATRONI_SCOPE", "ETCD_NAME", "PGHOST", "PYTHONPATH"):
        monkeypatch.setenv(name, "elsewhere")
    assert {"PATRONI_SCOPE", "ETCD_NAME", "PGHOST", "PYTHONPATH"} & set(programs.environment()) == set()


def test_the_packages_that_are_copied_are_all_that_patroni_needs(tmp_path: Path) -> None:
    programs.copy_packages(tmp_path / "packages")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'packages')!r}); {programs.TRY}"
    interpreter = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    done = subprocess.run(
        [str(interpreter), "-I", "-S", "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "packages")


def test_what_was_never_made_is_neither_stopped_nor_removed(store: patroni.Store) -> None:
    from shardmart.cluster.protocol.connection import Deadline

    assert patroni.stop(store.state, Deadline(5)) == []
    assert patroni.remove(store.state, Deadline(5)) == []


@pytest.mark.parametrize(
    ("role", "state", "follows", "reason"),
    [
        ("quorum_standby", "streaming", True, ""),
        ("sync_standby", "streaming", True, ""),
        ("replica", "streaming", False, "replica, streaming, and may not take over yet"),
        ("replica", "running", False, "replica, running"),
        ("", "", False, "unknown to the others, no state"),
        ("leader", "running", False, ""),
    ],
)
def test_only_a_node_that_may_take_over_counts_as_one_that_follows(
    monkeypatch: pytest.MonkeyPatch, role: str, state: str, follows: bool, reason: str
) -> None:
    """A leader that is killed before the others are its standbys is followed by nobody."""
    node = Instance("shop-postgres-2", "127.0.0.1", 1)
    told = {"members": [{"name": node.name, "role": role, "state": state, "lag": 0}]}
    monkeypatch.setattr(observe, "ask", lambda _node, path, **_: (200, told if path == "/cluster" else {}))
    (member,) = observe.members([node])
    assert (member.follows, member.health.reason) == (follows, reason)
