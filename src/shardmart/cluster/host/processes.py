"""Run members and routers as processes of this machine, without root, surviving the play that started them.

A process is known by its pid file and recognised by its command line: the server's own file where the server expects
it (`--config FILE`, `--logpath FILE`), and without a pid file in the same program too.  So neither a pid that the
system has given to another program nor somebody who reads a log is ever taken for a server or signalled.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from ..errors import ClusterError
from ..protocol.connection import Deadline
from .files import write_whole

KEPT_LOGS = 3
TAIL_LINES, TAIL_BYTES = 8, 65_536
RECORDED_FILES = ("pid_file", "log_file", "data_folder", "unix_socket")
BEGUN = '"***** SERVER RESTARTED *****"'


@dataclass(frozen=True)
class Process:
    """One server process: its name, command line, port, and the files it lives from.

    `marker` is an argument of `command`, after an option, that no other server has; `configuration` is written to
    `configuration_file` (mode 0600) before a start when both are given.
    """

    name: str
    command: tuple[str, ...]
    host: str
    port: int
    marker: str
    pid_file: Path
    log_file: Path
    data_folder: Path | None = None
    configuration_file: Path | None = None
    configuration: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    unix_socket: Path | None = None
    """Where it listens, if not at `port`, which then is where others find it."""

    def running(self) -> psutil.Process | None:
        """The live process, by its pid file or else by its command line; None when it does not run."""
        return live([self]).get(self.name)

    def noted(self) -> psutil.Process | None:
        """The live process that the pid file names.  Under that pid a wrapper may have become it."""
        try:
            process = psutil.Process(int(self.pid_file.read_text().split()[0]))
            return process if self.is_told(_words(process)) and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def is_told(self, words: Sequence[str]) -> bool:
        """Whether a command line tells somebody of this server's own file."""
        return self._own_file in pairwise(words)

    @property
    def _own_file(self) -> tuple[str, str]:
        """The option that tells the server of its own file, and the file."""
        return self.command[self.command.index(self.marker) - 1], self.marker

    @property
    def record_file(self) -> Path:
        """Where `remember` keeps what this process is, beside its pid file."""
        return self.pid_file.with_suffix(".json")

    def configuration_change(self) -> tuple[str, str] | None:
        """The configuration on disk and the declared one when they differ, else None."""
        if self.configuration_file is None or self.configuration is None:
            return None
        before = self.configuration_file.read_text() if self.configuration_file.exists() else ""
        return None if before == self.configuration else (before, self.configuration)

    def arguments_change(self, live: psutil.Process) -> bool:
        """Whether the live process was started with other arguments than declared; a server with a configuration file
        has its settings there."""
        try:
            return self.configuration_file is None and tuple(live.cmdline()[1:]) != self.command[1:]
        except psutil.Error:
            return False

    def last_words(self) -> str:
        """What the log says of an end, for a failure message: the errors of a mongod's last run, else the last lines.

        A mongod tells the reason first, and then, in more lines than anybody reads, how it ends in good order.
        """
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, self.log_file.stat().st_size - TAIL_BYTES))
                lines = file.read().decode(errors="replace").rpartition(BEGUN)[2].splitlines()
        except OSError:
            return f"no log at {self.log_file}"
        return "\n".join([told for line in lines if (told := _error_in(line))] or lines[-TAIL_LINES:])


def _error_in(line: str) -> str | None:
    """The words of an error in mongod's log; None for any other line.  Source: MongoDB 6.0 manual, "Log Messages"."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        entry = json.loads(line)
        if entry["s"] in ("E", "F"):
            told = entry.get("attr", {})
            reasons = [told[name] for name in ("error", "reason", "message") if name in told]
            words = [one.get("errmsg") or one.get("msg") or one if isinstance(one, dict) else one for one in reasons]
            return ": ".join(map(str, (entry["msg"], *words)))[:400]
    return None


def live(processes: Iterable[Process]) -> dict[str, psutil.Process]:
    """Those that run, by name: by their pid files, and the rest by one look at the command lines of this machine."""
    wanted = list(processes)
    found = {process.name: it for process in wanted if (it := process.noted())}
    # Whoever started one may have been killed before the pid file was written.
    unnoted = [process for process in wanted if process.name not in found]
    for candidate in psutil.process_iter() if unnoted else ():
        try:
            words = _words(candidate)
            # Not under the pid that was noted, so it has to be the same program, or a debugger that started it would be
            # taken for it.
            same = [one for one in unnoted if one.is_told(words) and _program(words) == _program(one.command)]
            if same and same[0].name not in found and candidate.status() != psutil.STATUS_ZOMBIE:
                found[same[0].name] = candidate
        except psutil.Error:
            continue
    return {process.name: found[process.name] for process in wanted if process.name in found}


def _words(process: psutil.Process) -> tuple[str, ...]:
    return tuple(process.cmdline())


def send_signal(process: psutil.Process, number: int) -> None:
    """Send a signal; nothing to do where the process has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _program(command: Sequence[str]) -> tuple[str, ...]:
    """What a command line runs: the file's name, or what the interpreter is told to be."""
    interpreted = len(command) > 2 and command[1] in ("-m", "-c")
    return tuple(command[1:3]) if interpreted else (Path(command[0]).name,)


def holder_of(host: str, port: int) -> str | None:
    """Who listens on `host:port`: "name (pid N)", "another user's process", or None when nobody does."""
    try:
        with socket.create_connection((host, port), timeout=1):
            pass
    except OSError:
        return None
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                break
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                break
    return "another user's process"


@dataclass(frozen=True)
class Started:
    """A process just started, and the handle that knows how it ends."""

    process: Process
    popen: subprocess.Popen[bytes]


def start(processes: Iterable[Process]) -> list[Started]:
    """Start those that do not run, all at once, without waiting.

    Raises ClusterError when a port is held by another program, which it names.
    """
    wanted = list(processes)
    running = live(wanted)
    idle = [process for process in wanted if process.name not in running]
    for process in idle:
        if process.unix_socket is None and (holder := holder_of(process.host, process.port)):
            raise ClusterError(
                f"port {process.port} of {process.name} is held by {holder}; stop it or change the port in the topology"
            )
    return [Started(process, _launch(process)) for process in idle]


def _launch(process: Process) -> subprocess.Popen[bytes]:
    folders = [process.pid_file.parent, process.log_file.parent]
    if process.data_folder is not None:
        folders += [process.data_folder.parent, process.data_folder]
    for folder in folders:  # each by itself: `parents=True` would make the outer ones readable by others
        folder.mkdir(exist_ok=True, mode=0o700)
    write_configuration(process)
    rotate_logs([process], larger_than=0)
    with process.log_file.open("ab") as log:
        popen = subprocess.Popen(  # noqa: S603  the command is built from the topology, no shell is involved
            process.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # survives the play and its Ctrl-C
            env=os.environ | process.environment,
            umask=0o077,
        )
    write_whole(process.pid_file, f"{popen.pid}\n")
    remember(process)
    return popen


def note_pid(process: Process) -> None:
    """Have the pid file name the live process, which may have been found by its command line."""
    found = process.running()
    if found and (not process.pid_file.exists() or process.pid_file.read_text().split() != [str(found.pid)]):
        write_whole(process.pid_file, f"{found.pid}\n")


def remember(process: Process) -> None:
    """Keep what is needed to start this process again, for `recorded`."""
    files = {name: getattr(process, name) for name in RECORDED_FILES}
    record = {
        "name": process.name,
        "command": list(process.command),
        "host": process.host,
        "port": process.port,
        "marker": process.marker,
        "environment": process.environment,
    } | {key: str(path) if path else None for key, path in files.items()}
    content = json.dumps(record)
    if not process.record_file.exists() or process.record_file.read_text() != content:
        write_whole(process.record_file, content)


def recorded(pid_file: Path) -> Process | None:
    """The process that was started with this pid file, to be started again with the configuration that it had; None
    when there is no record."""
    try:
        record = json.loads(pid_file.with_suffix(".json").read_text())
    except FileNotFoundError:
        return None
    paths = {key: Path(record[key]) if record.get(key) else None for key in RECORDED_FILES}
    return Process(**record | {"command": tuple(record["command"])} | paths)


def write_configuration(process: Process) -> None:
    """Write the configuration file, readable by its owner only."""
    if process.configuration_file is None or process.configuration is None:
        return
    process.configuration_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(process.configuration_file, process.configuration)


def wait_until_listening(started: Iterable[Started], deadline: Deadline) -> None:
    """Wait until each accepts connections.

    Raises ClusterError when one ends first (with the end of its log), DeadlineError when one is too slow.
    """
    waiting = list(started)
    while waiting:
        for item in list(waiting):
            refuse_ended([item])
            try:
                with _connection(item.process):
                    waiting.remove(item)
            except OSError:
                continue
        if waiting:
            names = ", ".join(item.process.name for item in waiting)
            deadline.pause(f"{names} to listen; see {waiting[0].process.log_file}")


def _connection(process: Process) -> socket.socket:
    """OSError when it does not listen."""
    if process.unix_socket is None:
        return socket.create_connection((process.host, process.port), timeout=1)
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(1)
        found.connect(str(process.unix_socket))
    except OSError:
        found.close()
        raise
    return found


def refuse_ended(started: Iterable[Started]) -> None:
    """ClusterError, with the end of its log, when one of the processes has ended."""
    for item in started:
        if item.popen.poll() is not None:
            process = item.process
            raise ClusterError(
                f"{process.name} ended with exit code {item.popen.returncode} right after its start; "
                f"its log {process.log_file} says:\n{process.last_words()}"
            )


def stop(processes: Iterable[Process], *, wait_seconds: float = 60) -> list[str]:
    """Ask those that run to end cleanly (SIGTERM), wait, and name them.

    A process that is still there at the deadline is reported, not killed: it may be writing. Raises ClusterError.
    """
    asked = list(processes)
    alive = live(asked)
    running = [(process, alive[process.name]) for process in asked if process.name in alive]
    for _, found in running:
        send_signal(found, signal.SIGTERM)
    deadline = Deadline(wait_seconds)
    while left := [process.name for process, found in running if not has_ended(found)]:
        deadline.pause(f"{', '.join(left)} to end; still there, see their logs (nothing was killed)")
    for process, _ in running:
        process.pid_file.unlink(missing_ok=True)
    return [process.name for process, _ in running]


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or a zombie that nobody collects (containers without an init).

    The first thread of a process may be a zombie while others still hold its port and its locks (proc(5), `Threads`).
    """
    try:
        return not process.is_running() or (
            process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1  # none but the zombie
        )
    except psutil.NoSuchProcess:
        return True


def rotate_logs(processes: Iterable[Process], *, larger_than: int) -> list[str]:
    """Rotate logs of more than `larger_than` bytes, keep KEPT_LOGS old ones each, and name the processes.

    A running server is told by SIGUSR1 to open its log anew (mongod and mongos with `logRotate: reopen`, and the
    development router).
    """
    rotated = []
    for process in processes:
        if not process.log_file.exists() or process.log_file.stat().st_size <= larger_than:
            continue
        for n in range(KEPT_LOGS - 1, 0, -1):
            older = process.log_file.with_name(f"{process.log_file.name}.{n}")
            if older.exists():
                older.replace(process.log_file.with_name(f"{process.log_file.name}.{n + 1}"))
        process.log_file.replace(process.log_file.with_name(f"{process.log_file.name}.1"))
        if found := process.running():
            send_signal(found, signal.SIGUSR1)
        rotated.append(process.name)
    return rotated
