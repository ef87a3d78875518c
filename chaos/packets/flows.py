"""Who talks to whom on loopback: the owner of each end of a TCP connection, by port and by process.

Every member of an embedded cluster has the same address, so a packet names its two ends by port only.  A listening
port names a member; an ephemeral port is looked up in /proc/net/tcp and the members' open files.  Used by
`chaos.packets.injector`; it reads /proc and changes nothing.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

OUTSIDE = "outside"
"""The name of every process that is not a member or a router: clients, probes, tools."""

SYN, ACK = 0x02, 0x10


@dataclass(frozen=True)
class Endpoint:
    """A member or router: its name, listening port, and process (None when it is down)."""

    name: str
    port: int
    pid: int | None = None
    pid_file: str | None = None

    def process(self) -> int | None:
        """The process now: a member that came back has a new one."""
        if self.pid_file:
            try:
                return int(Path(self.pid_file).read_text().strip())
            except (OSError, ValueError):
                return self.pid
        return self.pid


@dataclass(frozen=True)
class Header:
    """What the injector reads of a packet: addresses and ports, and whether it opens a connection."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    opens: bool


def parse(header: bytes) -> Header | None:
    """The TCP/IPv4 header in `header`; None for anything else (IPv6, fragments)."""
    if len(header) < 40 or header[0] >> 4 != 4 or header[9] != 6:
        return None
    words = (header[0] & 0x0F) * 4
    if len(header) < words + 14:
        return None
    source_port, destination_port = struct.unpack_from(">HH", header, words)
    flags = header[words + 13]
    return Header(
        source=".".join(map(str, header[12:16])),
        destination=".".join(map(str, header[16:20])),
        source_port=source_port,
        destination_port=destination_port,
        opens=bool(flags & SYN) and not flags & ACK,
    )


def _inode_of_port(port: int) -> int | None:
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split(None, 10)
            if fields[1].endswith(wanted) and (inode := int(fields[9])):
                return inode
    return None


class Owners:
    """Answers which endpoint a port belongs to.  Ephemeral ports are remembered until `forget`."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._endpoints = endpoints
        self._listening = {endpoint.port: endpoint.name for endpoint in endpoints}
        self._ephemeral: dict[int, str] = {}

    def forget(self, port: int) -> None:
        """A new connection starts at `port`: whoever had it before is of no interest."""
        self._ephemeral.pop(port, None)

    def name(self, port: int) -> str:
        """The endpoint that listens on `port` or has opened a connection from it, else OUTSIDE."""
        if port in self._listening:
            return self._listening[port]
        if port not in self._ephemeral:
            self._ephemeral[port] = self._look_up(port)
        return self._ephemeral[port]

    def _look_up(self, port: int) -> str:
        inode = _inode_of_port(port)
        if inode is None:
            return OUTSIDE
        link = f"socket:[{inode}]"
        for endpoint in self._endpoints:
            process = endpoint.process()
            if process is None:
                continue
            folder = f"/proc/{process}/fd"
            try:
                descriptors = os.listdir(folder)  # noqa: PTH208 - names only, a hundred of them, per new connection
            except OSError:
                continue
            for descriptor in descriptors:
                try:
                    if os.readlink(f"{folder}/{descriptor}") == link:  # noqa: PTH115
                        return endpoint.name
                except OSError:
                    continue
        return OUTSIDE
