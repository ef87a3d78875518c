"""The MongoDB wire protocol: OP_MSG with document sequences, and OP_QUERY/OP_REPLY for the legacy hello.

Called by the client side and the member side; never does I/O.  Source: MongoDB manual, "Wire Protocol"
(6.0).  Compression is never negotiated, so OP_COMPRESSED is refused.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import rawbson
from .errors import Code, RouterError, failure

_ONE = struct.pack("<d", 1.0)
HEADER = struct.Struct("<iiii")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1 << 0, 1 << 1
_REQUIRED_BITS = 0xFFFF & ~(CHECKSUM_PRESENT | MORE_TO_COME)
MAXIMUM_MESSAGE_BYTES = 48_000_000
_request_ids = itertools.count(1)


class MalformedMessageError(Exception):
    """Bytes that are no message: the connection they came from is to be closed."""


@dataclass
class Message:
    """One command or reply: `body` is its BSON, `sequences` the document sequences beside it."""

    request_id: int
    response_to: int
    body: bytes
    sequences: dict[str, list[bytes]] = field(default_factory=dict)
    more_to_come: bool = False
    legacy: bool = False

    @cached_property
    def elements(self) -> dict[bytes, rawbson.Element]:
        """Where the body's top-level fields are, read once."""
        return {name: (kind, start, end) for name, kind, start, end in rawbson.walk(self.body)}

    @cached_property
    def document(self) -> dict[str, Any]:
        """The body, all of it decoded."""
        return rawbson.decode(self.body)

    @property
    def refused(self) -> bool:
        """Whether a reply says `ok: 0`; cheap when all is well."""
        element = self.elements.get(b"ok")
        if element and self.body[element[1] : element[2]] == _ONE:
            return False
        return element is None or bool(rawbson.value_of(self.body, element) != 1)


def checked(reply: Message) -> Message:
    """`reply` itself, unless it says `ok: 0`: then that error is raised."""
    if reply.refused:
        raise failure(reply.document)
    return reply


def length(buffer: bytes | bytearray) -> int:
    """The length that the header at the start of `buffer` announces; raises MalformedMessageError."""
    found: int = struct.unpack_from("<i", buffer)[0]
    if not HEADER.size <= found <= MAXIMUM_MESSAGE_BYTES:
        raise MalformedMessageError(f"message length {found}")
    return found


def take(buffer: bytearray) -> Message | None:
    """The first message of `buffer`, removed from it; None before it is whole.  Raises MalformedMessageError."""
    if len(buffer) < HEADER.size:
        return None
    if len(buffer) < (size := length(buffer)):
        return None
    message = parse(bytes(memoryview(buffer)[:size]))
    del buffer[:size]
    return message


def parse(data: bytes) -> Message:
    """The message in `data` (header included); raises MalformedMessageError."""
    try:
        _, request_id, response_to, opcode = HEADER.unpack_from(data)
        if opcode == OP_MSG:
            return _parse_msg(data, request_id, response_to)
        if opcode == OP_QUERY:
            return _parse_query(data, request_id)
    except rawbson.MalformedDocumentError as error:
        raise MalformedMessageError(error.message) from None
    except (struct.error, IndexError, ValueError, UnicodeDecodeError):
        raise MalformedMessageError("message ends too early") from None
    raise MalformedMessageError(f"operation code {opcode}")


def _parse_msg(data: bytes, request_id: int, response_to: int) -> Message:
    (flags,) = struct.unpack_from("<I", data, 16)
    if flags & _REQUIRED_BITS:
        raise MalformedMessageError(f"unknown flag bits {flags:#x}")
    end = len(data) - (4 if flags & CHECKSUM_PRESENT else 0)
    position, body, sequences = 20, None, {}
    while position < end:
        kind = data[position]
        position += 1
        (size,) = struct.unpack_from("<i", data, position)
        if size < 5 or position + size > end:
            raise MalformedMessageError(f"section of {size} bytes")
        nul = data.index(0, position + 4, position + size)
        if kind == 0 and body is None:
            body = data[position : position + size]
        elif kind == 1 and (name := data[position + 4 : nul].decode()) not in sequences:
            sequences[name] = rawbson.split_documents(data, nul + 1, position + size)
        else:
            raise MalformedMessageError(f"section kind {kind}, or a second one of the same")
        position += size
    if body is None:
        raise MalformedMessageError("no body")
    return Message(request_id, response_to, body, sequences, more_to_come=bool(flags & MORE_TO_COME))


def _parse_query(data: bytes, request_id: int) -> Message:
    nul = data.index(0, 20)
    start = nul + 9  # skip numberToSkip and numberToReturn
    (size,) = struct.unpack_from("<i", data, start)
    if size < 5 or start + size > len(data):
        raise MalformedMessageError(f"query of {size} bytes")
    return Message(request_id, 0, data[start : start + size], legacy=True)


def build(body: bytes, sequences: dict[str, list[bytes]] | None = None, *, response_to: int = 0) -> bytes:
    """An OP_MSG."""
    parts = [b"\x00\x00\x00\x00\x00", body]
    for name, documents in (sequences or {}).items():
        content = b"".join([name.encode(), b"\x00", *documents])
        parts += [b"\x01", struct.pack("<i", len(content) + 4), content]
    payload = b"".join(parts)
    return HEADER.pack(len(payload) + 16, next(_request_ids) & 0x7FFFFFFF, response_to, OP_MSG) + payload


def build_reply(body: bytes, request: Message) -> bytes:
    """The answer to `request`, in the operation code it was asked in."""
    if not request.legacy:
        return build(body, response_to=request.request_id)
    # responseFlags AwaitCapable, cursorId, startingFrom, numberReturned
    payload = struct.pack("<iqii", 8, 0, 0, 1) + body
    return HEADER.pack(len(payload) + 16, next(_request_ids) & 0x7FFFFFFF, request.request_id, OP_REPLY) + payload


def command(document: dict[str, Any], sequences: dict[str, list[bytes]] | None = None) -> bytes:
    """The OP_MSG of a command; raises RouterError 10334 for one that a member would close the connection for."""
    data = build(rawbson.encode(document), sequences)
    if len(data) > MAXIMUM_MESSAGE_BYTES:
        raise RouterError(Code.BSONObjectTooLarge, f"message of {len(data)} bytes, {MAXIMUM_MESSAGE_BYTES} are allowed")
    return data
