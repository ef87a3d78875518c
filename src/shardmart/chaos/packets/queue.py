"""A netfilter queue over a netlink socket: packets the kernel hands to this process, and the verdicts it gives back.

Protocol: linux/netfilter/nfnetlink_queue.h (kernel 6.1).  It never changes a
packet, and never asks for more than the headers: payloads of the database stay in the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_NO_ENOBUFS = 5
SO_RCVBUFFORCE = 33

NFNL_SUBSYS_QUEUE = 3
MSG_PACKET, MSG_VERDICT, MSG_CONFIG = 0, 1, 2
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLMSG_ERROR = 2

CFG_CMD, CFG_PARAMS, CFG_QUEUE_MAXLEN, CFG_MASK, CFG_FLAGS = 1, 2, 3, 4, 5
CMD_BIND, CMD_UNBIND = 1, 2
COPY_PACKET = 2
FLAG_FAIL_OPEN, FLAG_GSO = 1, 4

ATTR_PACKET_HEADER, ATTR_VERDICT_HEADER, ATTR_MARK, ATTR_PAYLOAD = 1, 2, 3, 10
DROP, ACCEPT, REPEAT = 0, 1, 4

HEADER_BYTES = 128
"""How much of each packet is copied: an IP and a TCP header with all their options fit."""


class QueueError(Exception):
    """The kernel refused the queue; the message says why and what to do."""


@dataclass(frozen=True)
class Packet:
    """A packet that waits in the kernel for a verdict: its number in the queue and its first bytes."""

    number: int
    header: bytes


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * padding


class PacketQueue:
    """Queue `number` of this network namespace.  Raises QueueError when it is taken or the process may not have it.

    When the process dies the kernel unbinds the queue; rules with `--queue-bypass` then let every packet through.
    """

    def __init__(self, number: int, capacity: int = 65536) -> None:
        self.number = number
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except (AttributeError, OSError) as error:
            raise QueueError(f"no netfilter netlink socket here ({error}): network faults need Linux") from None
        self._socket.bind((0, 0))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        self._configure(_attribute(CFG_CMD, struct.pack(">BBH", CMD_BIND, 0, 0)))
        self._configure(_attribute(CFG_PARAMS, struct.pack(">IB", HEADER_BYTES, COPY_PACKET)))
        self._configure(_attribute(CFG_QUEUE_MAXLEN, struct.pack(">I", capacity)))
        # Fail-open: a full queue lets packets pass instead of stopping the cluster. GSO: loopback segments of 64 kB
        # come as they are instead of being cut into 43 packets first.
        flags = FLAG_FAIL_OPEN | FLAG_GSO
        self._configure(
            _attribute(CFG_FLAGS, struct.pack(">I", flags)) + _attribute(CFG_MASK, struct.pack(">I", flags))
        )
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self._socket.fileno()

    def _message(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        payload = struct.pack(">BBH", socket.AF_UNSPEC, 0, self.number) + body
        return (
            struct.pack("=IHHII", 16 + len(payload), NFNL_SUBSYS_QUEUE << 8 | kind, NLM_F_REQUEST | flags, 0, 0)
            + payload
        )

    def _configure(self, body: bytes) -> None:
        self._socket.send(self._message(MSG_CONFIG, body, NLM_F_ACK))
        answer = self._socket.recv(65536)
        kind = struct.unpack_from("=H", answer, 4)[0]
        code = struct.unpack_from("=i", answer, 16)[0] if kind == NLMSG_ERROR else 0
        if -code in (errno.EBUSY, errno.EPERM) and body[4] == CMD_BIND and os.geteuid() == 0:
            raise QueueError(
                f"packet queue {self.number} is taken: another network fault is active on this machine;"
                " wait for its end, or end it with `shardmart chaos heal`"
            )
        if code:
            reason = os.strerror(-code)
            raise QueueError(
                f"the kernel refused packet queue {self.number}: {reason} (network faults need root or"
                " CAP_NET_ADMIN in this network namespace, and nfnetlink_queue in the kernel)"
            )

    def receive(self) -> Iterator[Packet]:
        """Every packet that waits now; nothing when there is none."""
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            yield from self._packets(data)

    @staticmethod
    def _packets(data: bytes) -> Iterator[Packet]:
        offset = 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == NFNL_SUBSYS_QUEUE << 8 | MSG_PACKET:
                number, header = None, b""
                position, end = offset + 20, offset + length
                while position + 4 <= end:
                    size, attribute = struct.unpack_from("=HH", data, position)
                    attribute &= 0x3FFF
                    if attribute == ATTR_PACKET_HEADER:
                        number = struct.unpack_from(">I", data, position + 4)[0]
                    elif attribute == ATTR_PAYLOAD:
                        header = data[position + 4 : position + size]
                    position += (size + 3) & ~3
                if number is not None:
                    yield Packet(number, header)
            offset += (length + 3) & ~3

    def decide(self, packet: int, verdict: int, mark: int | None = None) -> None:
        """Give packet number `packet` its verdict: DROP, ACCEPT, or REPEAT (run the rules again), with a new mark."""
        body = _attribute(ATTR_VERDICT_HEADER, struct.pack(">II", verdict, packet))
        if mark is not None:
            body += _attribute(ATTR_MARK, struct.pack(">I", mark))
        self._socket.send(self._message(MSG_VERDICT, body))

    def close(self) -> None:
        """Unbind the queue; packets that still wait in it are dropped by the kernel, so decide them first."""
        self._socket.close()
