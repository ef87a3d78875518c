"""One instance of a service as a server: it listens, and ends without dropping a request.

On SIGTERM `/readyz` says 503 and answers ask for the connection to be closed; after `drain_seconds`, when the load
balancer has looked away, the server stops listening and lets requests in hand end.
"""

from __future__ import annotations

import asyncio
import signal
from types import FrameType

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_SECONDS = 75
"""Longer than any load balancer keeps an idle connection: it is always the balancer that closes first."""
STOP_SECONDS = 15


class Server(uvicorn.Server):
    """uvicorn's server with a drain before its end.  A second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._state, self._drain_seconds = app.state, drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain."""
        if self._state.draining:
            self.should_exit = self.force_exit = sig == signal.SIGINT
            return
        self._state.draining = True
        loop: asyncio.AbstractEventLoop = self._state.loop
        loop.call_soon_threadsafe(self._state.drained.set)
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self._leave)

    def _leave(self) -> None:
        self.should_exit = True


def serve(app: FastAPI, host: str, port: int, drain_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=1024,
    )
    Server(config, app, drain_seconds).run()
