"""A TCP proxy before a PostgreSQL server that cuts connections at their COMMIT."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

When = Literal["before", "after"]
COMMIT = b"COMMIT\0"
"""The statement in a Query message (PostgreSQL 18 manual, "Message Formats")."""
COMMITTED = b"COMMIT\0"
"""The tag in the server's CommandComplete message is the same word."""


class CutProxy:
    """`cut` says whether a COMMIT is lost before the server has it, or its answer after the server gave it.

    That happens to the next `left` of them, which may be under way at the same time.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.cut: When | None = None
        self.left = 1
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Listen no more, and end what is open."""
        if self._server:
            self._server.close()
        for stream in self._open:
            stream.transport.abort()
        await asyncio.gather(*self._open.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        handling = asyncio.current_task()
        assert handling
        self._open[writer] = handling
        lost = asyncio.Event()

        async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, when: When, word: bytes) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    if self.cut == when and self.left and word in data:
                        self.left -= 1
                        break
                    to.write(data)
                    await to.drain()
            lost.set()

        tasks = [
            asyncio.create_task(pass_on(reader, back, "before", COMMIT)),
            asyncio.create_task(pass_on(there, writer, "after", COMMITTED)),
        ]
        await lost.wait()
        for stream in (writer, back):
            stream.transport.abort()
        for task in tasks:
            task.cancel()
        del self._open[writer]
