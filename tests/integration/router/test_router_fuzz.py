"""20,000 malformed inputs, with --full 100,000: the router lives, and answers the next client.

Most are fed to a client connection's own code without a socket, which is quick; some thousands go over real sockets,
anonymous and authenticated, to a real router.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any, cast

import bson
import pytest
from bson import Binary, Int64

from shardmart.router import commands
from shardmart.router.client import Client
from shardmart.router.operations.service import Service
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.long

assert commands
IN_PROCESS, ANONYMOUS, AUTHENTICATED = 16_000, 1_500, 2_500


def op_msg(document: dict[str, Any], sequence: tuple[str, list[dict[str, Any]]] | None = None) -> bytes:
    body = b"\0\0\0\0\0" + bson.encode(document)
    if sequence:
        content = sequence[0].encode() + b"\0" + b"".join(map(bson.encode, sequence[1]))
        body += b"\1" + struct.pack("<i", len(content) + 4) + content
    return struct.pack("<iiii", len(body) + 16, 7, 0, 2013) + body


def op_query() -> bytes:
    body = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
    return struct.pack("<iiii", len(body) + 16, 7, 0, 2004) + body


LSID = {"id": Binary(bytes(range(16)), 4)}
SEEDS = [
    op_msg({"hello": 1, "$db": "admin"}),
    op_query(),
    op_msg({"insert": "c", "ordered": False, "lsid": LSID, "txnNumber": Int64(1), "$db": "fuzz"},
           ("documents", [{"_id": 1, "a": "x"}, {"_id": 2, "a": [1, {"b": None}]}])),
    op_msg({"find": "c", "filter": {"a": {"$in": [1, 2.5, "x"]}}, "sort": {"a": -1}, "limit": 3, "$db": "fuzz"}),
    op_msg({"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "upsert": True}], "$db": "fuzz"}),
    op_msg({"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 1}], "$db": "fuzz"}),
    op_msg({"findAndModify": "c", "query": {"_id": 1}, "update": {"$inc": {"n": 1}}, "$db": "fuzz"}),
    op_msg({"aggregate": "c", "pipeline": [{"$match": {"a": 1}}, {"$count": "n"}], "cursor": {}, "$db": "fuzz"}),
    op_msg({"getMore": Int64(5), "collection": "c", "$db": "fuzz"}),
    op_msg({"killCursors": "c", "cursors": [Int64(5)], "$db": "fuzz"}),
    op_msg({"endSessions": [LSID], "$db": "admin"}),
    op_msg({"commitTransaction": 1, "lsid": LSID, "txnNumber": Int64(1), "autocommit": False, "$db": "admin"}),
    op_msg({"usersInfo": {"user": "x", "db": "admin"}, "$db": "admin"}),
    op_msg({"saslContinue": 1, "conversationId": 1, "payload": Binary(b"x"), "$db": "admin"}),
]  # fmt: skip


def mutate(rng: random.Random, *, framed: bool) -> bytes:
    """A seed with some bytes changed, cut, doubled or replaced; with `framed` the header stays right."""
    data = bytearray(rng.choice(SEEDS))
    low = 21 if framed else 0
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(low, max(low + 1, len(data)))
        what = rng.randrange(5)
        if what == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif what == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del data[at : at + rng.randint(1, 8)]
        elif what == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif at + 4 <= len(data):
            data[at : at + 4] = struct.pack("<i", rng.choice([-1, 0, 1, 4, 5, 2**31 - 1, -(2**31), 48_000_001]))
    if framed:
        data[0:4] = struct.pack("<i", len(data))
        data[12:20] = struct.pack("<iI", 2013, 0)
        data[20] = 0
        data[21:25] = struct.pack("<i", len(data) - 21)
    return bytes(data)


class Pipe:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = 0
        self.aborted = False

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "203.0.113.1", 1

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.mark.parametrize(
    ("seed", "inputs"), [(2026, IN_PROCESS), pytest.param(2027, 5 * IN_PROCESS, marks=pytest.mark.full)]
)
def test_a_connection_answers_or_closes_whatever_it_receives(
    caplog: pytest.LogCaptureFixture, seed: int, inputs: int
) -> None:
    async def feed() -> tuple[int, int]:
        credentials = Credentials("a key that is never used")
        service = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})
        rng, answered, closed = random.Random(seed), 0, 0
        for _ in range(inputs):
            pipe, client = Pipe(), Client(service)
            client.connection_made(cast(asyncio.Transport, pipe))
            client.data_received(mutate(rng, framed=rng.random() < 0.5))
            if client._task:
                await client._task
            answered += pipe.written > 0
            closed += pipe.aborted
            client.connection_lost(None)
        return answered, closed

    answered, closed = asyncio.run(feed())
    assert answered > 1000
    assert closed > 1000
    assert "internal error" not in caplog.text


def exchange(connection: socket.socket, data: bytes) -> bool:
    """Send bytes; False when the router closed the connection instead of answering or waiting for more."""
    try:
        connection.sendall(data)
        if len(data) < 16 or struct.unpack_from("<i", data)[0] > len(data) <= 48_000_000:
            return True
        head = connection.recv(16)
        left = struct.unpack_from("<i", head)[0] - len(head) if len(head) == 16 else 0
        while left > 0:
            left -= len(connection.recv(left))
    except TimeoutError:
        return False
    except OSError:
        return False
    return len(head) == 16


@pytest.fixture
def connect(cluster: EmbeddedCluster) -> Any:
    host, _, port = cluster.router.partition(":")

    def new() -> socket.socket:
        connection = socket.create_connection((host, int(port)), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    return new


def test_the_router_lives_through_malformed_messages(cluster: EmbeddedCluster, connect: Any) -> None:
    before = cluster.processes["mongos1"].running()
    assert before
    rng = random.Random(4)
    for _ in range(ANONYMOUS):
        with connect() as connection:
            connection.settimeout(0.05)
            exchange(connection, mutate(rng, framed=False))
    alive_and_well(cluster, before.pid)


def test_the_router_lives_through_malformed_commands_of_a_user(cluster: EmbeddedCluster) -> None:
    before = cluster.processes["mongos1"].running()
    assert before
    rng, sent, clients = random.Random(5), 0, 0
    while sent < AUTHENTICATED:
        clients += 1
        assert clients < 300, "the router closes too many connections over commands whose frame is right"
        with cluster.client(maxPoolSize=1) as client:
            client.admin.command("ping")
            (server,) = client._topology._servers.values()
            connection = server.pool.conns[0].conn.get_conn
            connection.settimeout(10)
            while sent < AUTHENTICATED and exchange(connection, mutate(rng, framed=True)):
                sent += 1
            sent += 1
    alive_and_well(cluster, before.pid)


def alive_and_well(cluster: EmbeddedCluster, pid: int) -> None:
    process = cluster.processes["mongos1"].running()
    assert process
    assert process.pid == pid, "the router died and was started again"
    with cluster.client() as client:
        assert client.admin.command("listShards")["shards"]
    log = (cluster.folder / "logs" / "mongos1.log").read_text()
    assert "internal error" not in log, log[log.index("internal error") :][:3000]
