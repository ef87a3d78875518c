"""The console as an app: the page, its panels, its style and script.

It changes nothing and asks for no login, so it answers only to this machine's own names: another site's page that has
its name resolve to the loopback address gets nothing (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from shardmart.tasks import cancel, kept_running

from ..settings import Settings
from . import page
from .view import View

HERE = Path(__file__).parent
OWN_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def build(settings: Settings, name: str) -> FastAPI:
    """The console of the shop whose instances `settings` name."""
    view = View(settings, name)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.loop = asyncio.get_running_loop()
        app.state.drained = asyncio.Event()
        following = asyncio.create_task(kept_running(view.run))
        try:
            yield
        finally:
            await cancel(following)
            await view.close()

    app = FastAPI(title=f"Console {name}", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.draining = False

    @app.middleware("http")
    async def own_names_only(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "").lower()
        bare = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if bare not in OWN_NAMES and request.url.path not in ("/healthz", "/readyz"):
            return Response("This console answers to localhost only.\n", 421, media_type="text/plain")
        answer = await following(request)
        answer.headers.update(HEADERS)
        return answer

    @app.get("/")
    async def whole() -> HTMLResponse:
        return HTMLResponse(page.frame(await view.picture()))

    @app.get("/panels")
    async def panels() -> HTMLResponse:
        return HTMLResponse(page.panels(await view.picture()))

    @app.get("/console.css")
    async def style() -> Response:
        return Response((HERE / "console.css").read_text(), media_type="text/css")

    @app.get("/console.js")
    async def script() -> Response:
        return Response((HERE / "console.js").read_text(), media_type="text/javascript")

    @app.get("/healthz")
    async def alive() -> dict[str, bool]:
        return {"alive": True}

    @app.get("/readyz")
    async def ready() -> Response:
        missing = "stopping" if app.state.draining else None
        return JSONResponse({"ready": missing is None, "missing": missing}, 503 if missing else 200)

    return app
