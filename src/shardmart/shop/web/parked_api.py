"""Parked events, in every service that consumes: what waits and why, and one request that sends it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field

from ..ports import Lane, Store
from .answers import Body
from .tokens import Operator


class Again(Body):
    """Which: those of a key, or all."""

    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


def add(
    app: FastAPI, store: Store, service: str, regions: tuple[str, ...], lanes: int, nudge: Callable[[], None]
) -> None:
    """Add the endpoints to `app`."""

    @app.get("/parked", summary="Events that could not be handled")
    async def parked(_: Operator) -> dict[str, Any]:
        found = [
            each
            for region in regions
            for number in range(lanes)
            for each in await store.parked(Lane(service, region, number), 100)
        ]
        return {
            "items": [
                {
                    "id": each.event.id,
                    "type": each.event.type,
                    "key": each.event.key,
                    "reason": each.reason,
                    "again": each.again,
                }
                for each in found
            ]
        }

    @app.post("/parked/again", status_code=202, summary="Handle parked events once more")
    async def again(body: Again, _: Operator) -> dict[str, int]:
        asked = await store.send_again(service, regions, body.key)
        nudge()
        return {"events": asked}
