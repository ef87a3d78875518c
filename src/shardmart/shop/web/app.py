"""What every service's app has: its door, problem documents, health, metrics, status, its tasks in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from shardmart.tasks import cancel, kept_running

from ..ports import StoreError
from ..saga.consumer import Consumer
from ..settings import Settings
from ..telemetry import Telemetry
from . import problems
from .door import Door, Remembered
from .tokens import Operator

Check = Callable[[], Awaitable[None]]
READY_SECONDS = 1.0
logger = logging.getLogger(__name__)


class Instance:
    """A running instance: what its endpoints and tasks share."""

    def __init__(self, service: str, name: str, settings: Settings) -> None:
        self.service, self.name, self.settings = service, name, settings
        self.telemetry = Telemetry(service)
        self.consumer: Consumer | None = None
        self.relay: Consumer | None = None
        """It brings the outbox to a log elsewhere."""
        self.tasks: list[Callable[[], Awaitable[None]]] = []
        """Run from the start to the end; they are cancelled."""
        self.closing: list[Callable[[], Awaitable[None]]] = []
        self.ping: Check | None = None
        self.cache_is_away: Callable[[], bool] | None = None
        self.sources_away: Callable[[], list[str]] | None = None
        self._ready: tuple[float, str | None] = (0.0, None)

    async def missing(self) -> str | None:
        """What keeps it from serving; asked of the store at most once a second."""
        until, what = self._ready
        if time.monotonic() >= until and self.ping is not None:
            try:
                await self.ping()
                what = None
            except StoreError as error:
                what = f"the store does not answer: {error}"
            self._ready = (time.monotonic() + READY_SECONDS, what)
        return what


def build(instance: Instance, title: str, description: str) -> FastAPI:
    """An app without endpoints of its own yet."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.loop = asyncio.get_running_loop()
        app.state.drained = asyncio.Event()
        for fault in instance.settings.faults:
            logger.warning("NEGATIVE CONTROL: this instance makes a mistake on purpose", extra={"fault": fault})
        tasks = [asyncio.create_task(kept_running(task)) for task in instance.tasks]
        consumers = [consumer for consumer in (instance.consumer, instance.relay) if consumer]
        consuming = [asyncio.create_task(consumer.run()) for consumer in consumers]
        logger.info("started")
        try:
            yield
        finally:
            for consumer in consumers:
                consumer.stop()
            await asyncio.gather(*consuming, return_exceptions=True)
            await cancel(*tasks)
            for close in instance.closing:
                await close()
            logger.info("stopped")

    app = FastAPI(
        title=title,
        description=description,
        version="1",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
        redirect_slashes=False,
    )
    app.state.settings = instance.settings
    app.state.draining = False
    app.state.known_tokens = {}
    app.state.rebuild = []
    app.state.remembered = Remembered()
    problems.install(app)
    app.add_middleware(Door, limits=instance.settings.limits, telemetry=instance.telemetry, state=app.state)
    _common(app, instance)
    _openapi_of_problems(app)
    return app


def _common(app: FastAPI, instance: Instance) -> None:
    started = datetime.now(UTC)

    @app.get("/healthz", include_in_schema=False)
    async def alive() -> dict[str, bool]:
        return {"alive": True}

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> Response:
        missing = "stopping" if app.state.draining else await instance.missing()
        return JSONResponse({"ready": missing is None, "missing": missing}, 503 if missing else 200)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(instance.telemetry.text(), media_type="text/plain; version=0.0.4")

    @app.get("/status", include_in_schema=False)
    async def status(_: Operator) -> dict[str, Any]:
        consumer, cache = instance.consumer, instance.cache_is_away
        return {
            "service": instance.service,
            "instance": instance.name,
            "started_at": started.isoformat(timespec="seconds"),
            "draining": app.state.draining,
            "faults": sorted(instance.settings.faults),
            "lanes": consumer.held() if consumer else [],
            "relay": instance.relay.held() if instance.relay else [],
            "events_handled": instance.telemetry.effects,
            "parked": consumer.parked() if consumer else 0,
            "lag_ms": instance.telemetry.lag_ms(),
            "cache": None if cache is None else "away" if cache() else "ok",
            "sources_away": instance.sources_away() if instance.sources_away else [],
            "store": "away" if await instance.missing() else "ok",
        }


def _openapi_of_problems(app: FastAPI) -> None:
    """FastAPI documents errors as its own; ours are problem documents."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            for operation in (o for path in made["paths"].values() for o in path.values()):
                for status, answer in operation["responses"].items():
                    if int(status) >= 400:
                        content = {"schema": {"$ref": "#/components/schemas/Problem"}}
                        answer["content"] = {problems.MEDIA_TYPE: content}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
