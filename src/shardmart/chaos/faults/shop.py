"""Faults of the shop's own: a payment provider that makes mistakes, and an update of one instance after another."""

from __future__ import annotations

import threading
import time
from typing import Any

from shardmart.cluster.protocol.connection import Deadline
from shardmart.errors import ShardmartError
from shardmart.platforms.embedded_shop.converge import restart

from ..errors import ChaosError
from ..targets import beside, customers
from ..targets.selectors import Targets
from ..targets.shop import no_shop
from .fault import Fault
from .processes import embedded


class ProviderRules(Fault):
    """The simulated provider is told to make mistakes: `rules`, as its `PUT /rules` takes them; none at the end."""

    kind = "provider"
    begin_seconds = beside.START_SECONDS + 30

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return no_shop(targets.cluster)

    def begin(self) -> None:
        """Tell it."""
        self._tell(self.parameters["rules"])

    def end(self) -> None:
        """Tell it to make none; one that was started anew makes none."""
        self._tell([])

    def _tell(self, rules: list[dict[str, Any]]) -> None:
        beside.call(self.targets, customers.set_provider_rules, seconds=customers.ANSWER_SECONDS, rules=rules)


class RollingRestart(Fault):
    """Each target is stopped in order, started and waited for, and only then the next: what an update does.

    It is over when the last one serves again, at the latest after `duration_s`.
    """

    kind = "rolling"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return no_shop(targets.cluster)

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """One after the other."""
        platform, shop = embedded(self.targets), self.targets.cluster.shop
        assert shop
        done: list[str] = self.parameters.setdefault("restarted", [])
        for server in self.servers:
            left = deadline - time.monotonic()
            if stop.is_set() or left <= 0:
                return
            try:
                restart(platform.shop_process(server.name), shop, self.targets.state.folder, Deadline(left))
            except ShardmartError as error:
                raise ChaosError(f"{server.name} was not restarted: {error}") from None
            done.append(server.name)

    def end(self) -> None:
        """Start what was stopped and not started again."""
        embedded(self.targets).start([server.name for server in self.servers])

    def evidence(self) -> dict[str, Any]:
        """Who was restarted."""
        return {"restarted": self.parameters.get("restarted", [])}


KINDS: tuple[type[Fault], ...] = (ProviderRules, RollingRestart)
