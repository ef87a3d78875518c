"""What an operator does with events, in every service that consumes: look at parked ones, send them again, replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import Field

from ..ports import EventLog, Lane, Lanes, Store
from ..services.order import utc
from .answers import LONG_AGO, Body, Moment
from .tokens import Operator


class Again(Body):
    """Which: those of a key, or all."""

    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Replay(Body):
    """From when: `beginning`, or a time."""

    since: Annotated[Moment | Literal["beginning"], Field(alias="from")]


@dataclass(frozen=True)
class Consuming:
    """What the endpoints need of a consuming service.  `nudge` lets this instance look at once for what was asked."""

    service: str
    store: Store
    log: EventLog
    lanes: Lanes
    regions: tuple[str, ...]
    lanes_per_region: int
    nudge: Callable[[], None]


def add(app: FastAPI, consuming: Consuming) -> None:
    """Add the endpoints to `app`."""
    store, service, regions, nudge = consuming.store, consuming.service, consuming.regions, consuming.nudge
    lanes = consuming.lanes_per_region

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

    async def progress() -> dict[str, Any]:
        first = [
            event.at for region in regions for event in await consuming.log.read(region, None, None, 1) if event.at
        ]
        return {"lanes_left": await consuming.lanes.replaying(), "beginning": utc(min(first)) if first else None}

    @app.get("/replay", summary="How far a replay is, and where the log begins")
    async def replaying(_: Operator) -> dict[str, Any]:
        return await progress()

    @app.post("/replay", status_code=202, summary="Handle events once more; what had its effect does not have it again")
    async def replay(body: Replay, _: Operator) -> dict[str, Any]:
        await consuming.lanes.ask_replay(LONG_AGO if isinstance(body.since, str) else body.since)
        for rebuild in app.state.rebuild:
            await rebuild()
        return await progress()
