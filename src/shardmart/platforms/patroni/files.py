"""Where the processes of Patroni's store keep their files, and how each is recognised and started.

Every one has a folder of its own among the servers' data: its configuration, its data, its log, its pid.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...cluster.errors import ClusterError
from ...cluster.host import processes
from ...cluster.host.files import write_whole
from ...cluster.host.processes import Process, Started
from ...cluster.shop import Instance
from ..postgres import Host
from .programs import environment

NODE, ETCD = "shop-postgres-", "shop-etcd-"
HEADING = "# Written by Shardmart from the topology; changed there, not here.\n"


@dataclass(frozen=True)
class Place:
    """The folder of one process."""

    host: Host
    name: str

    @property
    def folder(self) -> Path:
        """All that it has."""
        return self.host.home / self.name

    @property
    def configuration(self) -> Path:
        """What it is told."""
        return self.folder / "configuration.yml"

    @property
    def data(self) -> Path:
        """What it keeps."""
        return self.folder / "data"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What its program is told."""
        file = str(self.configuration)
        return ("--config-file", file) if self.name.startswith(ETCD) else ("-m", "patroni", file)

    def process(self, host: str = "", port: int = 0) -> Process:
        """The process, running or not; of one that is started, where it will listen."""
        program = "etcd" if self.name.startswith(ETCD) else "python"
        pid, log = self.folder / "server.pid", self.folder / "server.log"
        return Process(self.name, (program, *self.arguments), host, port, self.arguments[-1], pid, log, self.data)

    def says(self, configuration: Mapping[str, Any]) -> bool:
        """Whether its file has this configuration."""
        return self.configuration.exists() and self.configuration.read_text() == _text(configuration)

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Write its file, for its user alone."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        self.host.own(self.folder)
        write_whole(self.configuration, _text(configuration))
        self.host.own(self.configuration)

    def written(self) -> dict[str, Any]:
        """The configuration that it has.  OSError without one."""
        return dict(yaml.safe_load(self.configuration.read_text()))

    def start(self, program: str, more: Mapping[str, str], server: Instance, port: int) -> Started:
        """Start it without waiting.  ClusterError when another program holds its port."""
        process = self.process(server.host, port)
        if holder := processes.holder_of(server.host, port):
            raise ClusterError(
                f"port {port} of {self.name} is held by {holder}; stop it or change the port in the topology"
            )
        processes.rotate_logs([process], larger_than=0)
        with process.log_file.open("ab") as log:
            self.host.own(process.log_file)
            popen = subprocess.Popen(  # noqa: S603
                [program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # survives the play and its Ctrl-C
                cwd="/",
                env=environment() | dict(more),
                umask=0o077,
                **self.host.identity(),
            )
        write_whole(process.pid_file, f"{popen.pid}\n")
        return Started(process, popen)


def _text(configuration: Mapping[str, Any]) -> str:
    return HEADING + yaml.safe_dump(dict(configuration), sort_keys=False)


def there(host: Host) -> list[Place]:
    """Every process that was ever made: nodes, then etcd's members, each by name."""
    return [
        Place(host, file.parent.name)
        for start in (NODE, ETCD)
        for file in sorted(host.home.glob(f"{start}[0-9]*/configuration.yml"))
    ]
