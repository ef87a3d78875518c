"""Who handles which lane, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ...ports import Lane
from .state import LONG_AGO, Memory


class MemoryLanes:
    """See `ports.Lanes`."""

    def __init__(
        self, memory: Memory, service: str, instance: str, regions: Sequence[str], lanes: int, lease_seconds: float
    ) -> None:
        self._memory, self._service, self._instance = memory, service, instance
        self._all = [(service, region, number) for region in regions for number in range(lanes)]
        self._lease = timedelta(seconds=lease_seconds)

    async def beat(self) -> list[Lane]:
        """See `ports.Lanes`."""
        self._memory.must_be_there()
        now, epochs = self._memory.clock(), self._memory.epochs
        self._memory.instances[self._service, self._instance] = now + self._lease
        living = [s for (s, _), until in self._memory.instances.items() if s == self._service and until > now]
        share = -(-len(self._all) // len(living))
        held = [key for key in self._all if epochs.get(key, (0, None, LONG_AGO))[1] == self._instance]
        for key in self._all:
            epoch, owner, until = epochs.get(key, (0, None, LONG_AGO))
            if owner == self._instance:
                epochs[key] = (epoch, owner, now + self._lease)
            elif (owner is None or until <= now) and len(held) < share:
                epochs[key] = (epoch + 1, self._instance, now + self._lease)
                held.append(key)
        for key in held[share:]:
            epochs[key] = (epochs[key][0] + 1, None, now)
        return [self._lane(key) for key in held[:share]]

    def _lane(self, key: tuple[str, str, int]) -> Lane:
        position, at = self._memory.positions.get(key, (None, None))
        return Lane(*key, self._memory.epochs[key][0], position, at, self._memory.replays.get(key))

    async def give_back(self, lanes: Sequence[Lane]) -> None:
        """See `ports.Lanes`."""
        for lane in lanes:
            key = (lane.service, lane.region, lane.number)
            if self._memory.epochs.get(key, (0,))[0] == lane.epoch:
                self._memory.epochs[key] = (lane.epoch + 1, None, self._memory.clock())

    async def ask_replay(self, since: datetime) -> int:
        """See `ports.Lanes`."""
        self._memory.replays |= dict.fromkeys(self._all, since)
        return len(self._all)

    async def replayed(self, lane: Lane) -> None:
        """See `ports.Lanes`."""
        self._memory.replays.pop((lane.service, lane.region, lane.number), None)

    async def replaying(self) -> int:
        """See `ports.Lanes`."""
        return sum(1 for key in self._all if key in self._memory.replays)

    async def leave(self) -> None:
        """See `ports.Lanes`."""
        self._memory.instances.pop((self._service, self._instance), None)
