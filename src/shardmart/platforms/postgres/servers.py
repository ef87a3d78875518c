"""PostgreSQL servers as processes of this machine: made once, started, stopped, recognised, removed.

Nothing here opens a database or knows what is in one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from ...cluster.errors import ClusterError
from ...cluster.host.files import write_whole
from ...cluster.host.processes import has_ended, holder_of, send_signal
from ...cluster.protocol.connection import Deadline
from . import programs
from .host import MARKER, Host

HOST = "127.0.0.1"
KEPT_LOG_BYTES = 64 * 2**20
TAIL_LINES = 8

SETTINGS: dict[str, str] = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "password_encryption": "scram-sha-256",
    "max_connections": "60",
    "max_wal_size": "'512MB'",
    "shared_buffers": "'64MB'",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_line_prefix": "'%m [%p] '",
}
PEERS: dict[str, str] = {
    "wal_level": "logical",  # rows for the peers
    "max_prepared_transactions": "64",  # two-phase commit; the default 0 refuses PREPARE TRANSACTION
    "max_wal_senders": "12",
    "max_replication_slots": "12",
    "max_active_replication_origins": "12",
    "max_logical_replication_workers": "8",
    "max_worker_processes": "16",
    # An absent peer may hold back so much and no more: its slot is then lost, and `repair` makes it anew.
    "max_slot_wal_keep_size": "'256MB'",
    "track_commit_timestamp": "on",  # PostgreSQL then names the origin of a conflict in its log
    "wal_receiver_timeout": "'10s'",
    "wal_sender_timeout": "'10s'",
    "wal_retrieve_retry_interval": "'1s'",  # a peer that came back is asked again after so long
    "enable_partitionwise_aggregate": "on",  # a fragment is aggregated where it lies
    "enable_partitionwise_join": "on",
}
"""What servers need besides that replicate rows to one another."""
SHOP: dict[str, str] = {"max_connections": "300"}
"""What the shop's server needs besides: ten instances of each service, with the connections that each keeps."""
CERTIFICATE, AUTHORITY = "server.pem", "authority.pem"
"""Names in the data folder, which is the servers' working folder: a relative path means the same on each of them."""
TLS: dict[str, str] = {
    "ssl": "on",
    "ssl_cert_file": f"'{CERTIFICATE}'",
    "ssl_key_file": f"'{CERTIFICATE}'",  # both are in one file, as MongoDB wants them
}
ACCESS = f"host all all {HOST}/32 scram-sha-256\n"
ACCESS_BY_TLS = f"hostssl all all {HOST}/32 scram-sha-256\n"


def certificate(host: Host, folder: Path) -> dict[Path, str]:
    """The cluster's certificate, and its authority's, as files of a server's folder.  ClusterError where there is
    none."""
    made = host.state / "tls"
    try:
        return {
            folder / CERTIFICATE: (made / "server.pem").read_text(),
            folder / AUTHORITY: (made / "ca.pem").read_text(),
        }
    except OSError as error:
        raise ClusterError(
            f"{error.filename}: {error.strerror}: the cluster's playbook makes the "
            "certificate (`make up`, with the topology that it has)"
        ) from None


@dataclass(frozen=True)
class Server:
    """One server: its name, its port, and the superuser that it is made with."""

    name: str
    port: int
    superuser: str
    password_file: Path
    host: Host
    peers: bool = True
    """Whether it replicates rows to others."""
    tls: bool = False
    """Whether it speaks TLS and nothing else, with the certificate of the cluster in the same state folder."""

    @property
    def switch(self) -> str:
        """What the topology says for it to speak no TLS."""
        return f"{'fragments' if self.peers else 'backends'}: {{tls: false}}"

    @property
    def folder(self) -> Path:
        """Its data."""
        return self.host.home / self.name / "data"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.host.home / self.name / "server.log"

    @property
    def made(self) -> bool:
        """Whether its data folder is there."""
        return (self.folder / "PG_VERSION").exists()

    @property
    def settings(self) -> dict[str, str]:
        """Its parameters, as postgresql.conf has them."""
        return SETTINGS | (PEERS if self.peers else SHOP) | (TLS if self.tls else {})

    def files(self) -> dict[Path, str]:
        """Its configuration files and what is in them.  ClusterError where its certificate is not there."""
        lines = [f"port = {self.port}", *(f"{key} = {value}" for key, value in self.settings.items())]
        heading = "# Written by shardmart, and anew whenever it says something else.\n"
        return {
            self.folder / "postgresql.conf": heading + "\n".join(lines) + "\n",
            self.folder / "pg_hba.conf": ACCESS_BY_TLS if self.tls else ACCESS,
            **(certificate(self.host, self.folder) if self.tls else {}),
        }

    def outdated(self) -> list[Path]:
        """The configuration files that say something else."""
        return [path for path, content in self.files().items() if not path.exists() or path.read_text() != content]

    def running(self) -> psutil.Process | None:
        """The live server, by its pid file and recognised by its command line; None when it does not run."""
        try:
            process = psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))
            # The option with the folder: whoever has the folder's name as a word (`du`, an editor) is not the server.
            words = process.cmdline()
            if ("-D", str(self.folder)) in pairwise(words) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, IndexError, psutil.Error):
            pass
        return None

    def make(self) -> None:
        """Run initdb, in one step: what was interrupted before is thrown away.  ClusterError when it cannot."""
        parent = self.folder.parent
        parent.mkdir(exist_ok=True, mode=0o700)
        self.host.own(parent)
        partial = parent / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=parent) as password:
            password.write(self.password_file.read_text())
            password.flush()
            self.host.own(Path(password.name))
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
            command = [str(self._program("initdb")), f"--pgdata={partial}", f"--username={self.superuser}"]
            done = self.host.run([*command, f"--pwfile={password.name}", *options])
        if done.returncode:
            raise ClusterError(f"initdb of {self.name} failed: {' '.join(done.stderr.split())[-500:]}")
        partial.rename(self.folder)

    def configure(self) -> None:
        """Write its configuration files; without TLS no key stays in its folder."""
        for name in () if self.tls else (CERTIFICATE, AUTHORITY):
            (self.folder / name).unlink(missing_ok=True)
        for path in self.outdated():
            write_whole(path, self.files()[path])
            self.host.own(path)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it without waiting.  ClusterError when another program holds its port."""
        if holder := holder_of(HOST, self.port):
            raise ClusterError(
                f"port {self.port} of {self.name} is held by {holder}; stop it, or declare another port for {self.name}"
            )
        if self.log.exists() and self.log.stat().st_size > KEPT_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.host.own(self.log)
            return subprocess.Popen(  # noqa: S603
                [str(self._program("postgres")), "-D", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # survives the play and its Ctrl-C
                cwd="/",
                env=programs.environment(),
                umask=0o077,
                **self.host.identity(),
            )

    def _program(self, name: str) -> Path:
        return self.host.program(name, tls=self.tls)

    def accepts(self) -> bool:
        """Whether it answers to connections."""
        command = [str(self.host.program("pg_isready")), f"--host={HOST}", f"--port={self.port}", "--timeout=2"]
        return self.host.run(command).returncode == 0

    def tail(self) -> str:
        """The end of its log, for a message."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        except OSError:
            return f"no log at {self.log}"


def is_certified(host: Host) -> bool:
    """Whether the cluster's certificate is there: check mode does not make the first one."""
    return (host.state / "tls" / "server.pem").exists()


def _planned(server: Server) -> list[Path]:
    """The configuration files that a run would write."""
    if server.tls and not is_certified(server.host):
        return [server.folder / "postgresql.conf"]
    return server.outdated()


def converge(servers: Sequence[Server], deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Have the servers made, configured and running, and say what was done.

    A running one whose configuration changed is restarted, one after the other; one whose certificate was renewed
    reads it.  Raises ClusterError.
    """
    changes: list[str] = []
    for server in servers:
        live = server.running()
        if not server.made:
            changes.append(f"make {server.name}")
        elif outdated := _planned(server) if check_mode else server.outdated():
            how = " and restart it" if live else ""
            changes.append(
                f"renew the certificate of {server.name}"
                if live and _only_renewed(outdated)
                else f"configure {server.name}{how}"
            )
        if not live:
            changes.append(f"start {server.name}")
    if check_mode or not changes:
        return changes
    started = []
    for server in servers:
        server.host.prepare()
        if server.tls:
            programs.have(server.host.home, server.host.binaries, server.switch)
        if not server.made:
            server.make()
        outdated, live = server.outdated(), server.running()
        restart = bool(outdated) and live is not None and not _only_renewed(outdated)
        if restart:
            stop([server], deadline)
        server.configure()
        if outdated and live and not restart:
            send_signal(live, signal.SIGHUP)
        if not server.running():
            started.append((server, server.start()))
            if restart:
                _wait(started[-1:], deadline)
    _wait(started, deadline)
    return changes


def _only_renewed(outdated: Sequence[Path]) -> bool:
    """Whether a server has to read no more than its certificate."""
    return {path.name for path in outdated} == {CERTIFICATE}


def _wait(started: list[tuple[Server, subprocess.Popen[bytes]]], deadline: Deadline) -> None:
    waiting = list(started)
    while waiting := [(server, popen) for server, popen in waiting if not server.accepts()]:
        for server, popen in waiting:
            if popen.poll() is not None:
                raise ClusterError(
                    f"{server.name} ended right after its start; {server.log} ends with:\n{server.tail()}"
                )
        deadline.pause(
            f"{', '.join(server.name for server, _ in waiting)} to accept connections; see {waiting[0][0].log}"
        )


def stop(servers: Iterable[Server], deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Ask those that run to end (fast shutdown: clients are disconnected), wait, say what was done.  ClusterError."""
    running = [(server, found) for server in servers if (found := server.running())]
    if not check_mode:
        for _, found in running:
            send_signal(found, signal.SIGINT)
        while alive := [server.name for server, found in running if not has_ended(found)]:
            deadline.pause(f"{', '.join(alive)} to end (nothing was killed)")
    return [f"stop {server.name}" for server, _ in running]


def remove(servers: Sequence[Server], deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Stop the servers and remove their data and logs.  ClusterError when somebody else made the folder of them."""
    for host in dict.fromkeys(server.host for server in servers):
        host.refuse_foreign()
    changes = stop(servers, deadline, check_mode=check_mode)
    for folder in (server.folder.parent for server in servers):
        if folder.exists():
            changes.append(f"remove {folder}")
            if not check_mode:
                shutil.rmtree(folder)
    for host in dict.fromkeys(server.host for server in servers):
        if not check_mode:
            tidy(host)
    return changes


def tidy(host: Host) -> None:
    """Remove copied programs with the last server: others of the same state folder may still run."""
    if host.home.exists() and not any(host.home.glob("*/data")):
        for program in (*host.home.glob("program*"), *host.home.glob(".*.partial")):
            shutil.rmtree(program, ignore_errors=True)
        (host.home / MARKER).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what is left was put there by a person
            host.home.rmdir()
