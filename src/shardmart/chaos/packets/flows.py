"""Who talks to whom on loopback: the owner of each end of a TCP connection, by port and by process.

Every member of an embedded cluster has the same address, so a packet names its two ends by port only.  A listening
port names a member; an ephemeral port is looked up among the sockets of the members' processes.
It reads /proc and changes nothing.
"""

from __future__ import annotations

import os
import socket
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
    children: bool = False
    """Whether its child processes speak for it, too: PostgreSQL has one for each connection."""

    def process(self) -> int | None:
        """The process now: a member that came back has a new one."""
        if self.pid_file:
            try:
                return int(Path(self.pid_file).read_text().split()[0])
            except (OSError, ValueError, IndexError):
                return self.pid
        return self.pid

    def processes(self) -> list[int]:
        """The process, and its children where they speak for it."""
        process = self.process()
        if process is None:
            return []
        return [process, *_children(process)] if self.children else [process]


@dataclass(frozen=True)
class Header:
    """What the injector reads of a packet: addresses and ports, and whether it opens a connection."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    opens: bool


def parse(header: bytes) -> Header | None:
    """The IP and TCP headers in `header`; None for anything else (UDP, fragments, IPv6 with extension headers)."""
    version = header[0] >> 4 if header else 0
    if version == 4 and len(header) >= 40 and header[9] == socket.IPPROTO_TCP:
        family, words, addresses = socket.AF_INET, (header[0] & 0x0F) * 4, (header[12:16], header[16:20])
    elif version == 6 and len(header) >= 60 and header[6] == socket.IPPROTO_TCP:
        family, words, addresses = socket.AF_INET6, 40, (header[8:24], header[24:40])
    else:
        return None
    if len(header) < words + 14:
        return None
    source_port, destination_port = struct.unpack_from(">HH", header, words)
    flags = header[words + 13]
    source, destination = (socket.inet_ntop(family, address) for address in addresses)
    return Header(
        source=source,
        destination=destination,
        source_port=source_port,
        destination_port=destination_port,
        opens=bool(flags & SYN) and not flags & ACK,
    )


class Owners:
    """Answers which endpoint a port belongs to.

    Every open connection is looked up once, in `scan`; after that only a new connection (a SYN) is, so that the packets
    that wait for the answer do not wait long.  `names` are the endpoints worth telling from OUTSIDE.
    """

    def __init__(self, endpoints: list[Endpoint], names: set[str]) -> None:
        # The first of a port has it: another process may stand before it and speak TLS there.
        self._listening = {endpoint.port: endpoint.name for endpoint in reversed(endpoints)}
        self._watched = [endpoint for endpoint in endpoints if endpoint.name in names]
        self._ephemeral: dict[int, str] = {}
        self._diagnosis = SocketDiagnosis()

    def scan(self) -> None:
        """Find the owners of every connection that is open now."""
        ports = _ports_by_inode()
        for endpoint in self._watched:
            for inode in _inodes_of(endpoint):
                if (port := ports.get(inode)) is not None:
                    self._ephemeral[port] = endpoint.name

    def opened(self, header: Header) -> None:
        """A connection opens: find out who has its source port now."""
        self._ephemeral.pop(header.source_port, None)
        inode = self._diagnosis.inode(header)
        if not inode:
            return
        for endpoint in self._watched:
            if inode in _inodes_of(endpoint):
                self._ephemeral[header.source_port] = endpoint.name
                return

    def name(self, port: int) -> str:
        """The endpoint that listens on `port` or has opened a connection from it, else OUTSIDE."""
        return self._listening.get(port) or self._ephemeral.get(port, OUTSIDE)


def _inodes_of(endpoint: Endpoint) -> set[int]:
    """The inodes of the sockets that an endpoint has open."""
    return {inode for process in endpoint.processes() for inode in _inodes_of_process(process)}


def _children(process: int) -> list[int]:
    """The children of a process's first thread (proc(5), `children`)."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _inodes_of_process(process: int) -> set[int]:
    folder = f"/proc/{process}/fd"
    inodes: set[int] = set()
    try:
        descriptors = os.listdir(folder)  # noqa: PTH208 - names only, and packets wait for them
    except OSError:
        return inodes
    for descriptor in descriptors:
        try:
            link = os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(int(link[8:-1]))
    return inodes


def _ports_by_inode() -> dict[int, int]:
    """The local port of every TCP socket of this network namespace, by inode."""
    ports = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split(None, 10)
            if inode := int(fields[9]):
                ports[inode] = int(fields[1].rpartition(":")[2], 16)
    return ports


class SocketDiagnosis:
    """Asks the kernel for one socket by its two ends (sock_diag(7), linux/inet_diag.h): a twentieth of a millisecond,
    where reading /proc/net/tcp takes several."""

    NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST, ERROR = 4, 20, 1, 2
    INODE_OFFSET = 16 + 4 + 48 + 16

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def inode(self, header: Header) -> int | None:
        """The inode of the socket that sent `header`; None if it is gone."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.NETLINK_SOCK_DIAG)
        request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        request += struct.pack(">HH", header.source_port, header.destination_port)
        request += socket.inet_aton(header.source).ljust(16, b"\0") + socket.inet_aton(header.destination).ljust(
            16, b"\0"
        )
        request += struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
        self._socket.send(
            struct.pack("=IHHII", 16 + len(request), self.SOCK_DIAG_BY_FAMILY, self.REQUEST, 0, 0) + request
        )
        answer = self._socket.recv(4096)
        if struct.unpack_from("=H", answer, 4)[0] == self.ERROR or len(answer) < self.INODE_OFFSET + 4:
            return None
        inode: int = struct.unpack_from("=I", answer, self.INODE_OFFSET)[0]
        return inode
