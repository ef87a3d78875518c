"""One `hello` over a plain socket (MongoDB wire protocol, OP_MSG), where a MongoClient would start three threads."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any

import bson

from ..description import host_and_port

HEADER_BYTES = 16
FLAGS_AND_KIND_BYTES = 5
OP_MSG = 2013


def say_hello(address: str, timeout_seconds: float, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """What the server at `address` ("host:port") says of itself, without authentication; by TLS with a `context`.

    Raises OSError, struct.error or bson.errors.InvalidBSON when there is no proper answer in time.
    """
    host, port = host_and_port(address)
    body = b"\0" * FLAGS_AND_KIND_BYTES + bson.encode({"hello": 1, "$db": "admin"})
    with socket.create_connection((host, port), timeout=timeout_seconds) as plain:
        connection = context.wrap_socket(plain, server_hostname=host) if context else plain
        connection.settimeout(timeout_seconds)
        connection.sendall(struct.pack("<iiii", HEADER_BYTES + len(body), 1, 0, OP_MSG) + body)
        length, *_, operation = struct.unpack("<iiii", _read(connection, HEADER_BYTES))
        if operation != OP_MSG:
            raise OSError(f"{address} does not answer in MongoDB's protocol")
        return bson.decode(_read(connection, length - HEADER_BYTES)[FLAGS_AND_KIND_BYTES:])


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("the connection was closed")
        data += more
    return data
