"""Facts are read from each member's own view, and every problem is a line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.cluster.description import Member, Role
from shardmart.cluster.observe.facts import certificate_problems, set_facts, sharding_facts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answer(address: str, state: str, behind: float = 0) -> dict[str, Any]:
    """A member that says of itself that it is in `state`, its last operation `behind` seconds old."""
    own = {"name": address, "self": True, "stateStr": state, "optimeDate": NOW - timedelta(seconds=behind)}
    stale = {"name": "other", "stateStr": "SECONDARY", "optimeDate": NOW - timedelta(seconds=60)}
    return {"status": {"members": [stale, own]}, "uptime_seconds": 5.0, "version": "6.0.5"}


def member(name: str) -> Member:
    return Member(name, Role.SHARD, "rs", "127.0.0.1", int(name[-1]))


def test_lag_is_measured_between_own_views() -> None:
    facts = set_facts(
        "rs",
        [
            (member("m1"), answer("127.0.0.1:1", "PRIMARY")),
            (member("m2"), answer("127.0.0.1:2", "SECONDARY", behind=3)),
        ],
    )
    assert [m["lag_seconds"] for m in facts["members"]] == [0, 3]
    assert facts["primary"] == "m1"
    assert facts["problems"] == []


def test_silent_and_sick_members_are_problems() -> None:
    facts = set_facts(
        "rs",
        [(member("m1"), {"error": "connection refused"}), (member("m2"), answer("127.0.0.1:2", "RECOVERING"))],
    )
    assert facts["problems"] == [
        "m1 (127.0.0.1:1): connection refused",
        "m2 (127.0.0.1:2) is RECOVERING",
        "rs has no primary",
    ]
    assert [m["state"] for m in facts["members"]] == ["DOWN", "RECOVERING"]


def test_two_primaries_are_a_problem() -> None:
    both = [(member(f"m{n}"), answer(f"127.0.0.1:{n}", "PRIMARY")) for n in (1, 2)]
    assert set_facts("rs", both)["problems"] == ["rs has 2 primaries"]


def test_certificate_that_should_have_been_renewed_is_a_problem() -> None:
    now = datetime.now(UTC)
    servers = [
        {"name": "plain"},
        {"name": "young", "certificate_ends": now + timedelta(days=16)},
        {"name": "old", "certificate_ends": now + timedelta(days=14, minutes=1)},
        {"name": "dead", "certificate_ends": now - timedelta(days=1)},
    ]
    assert certificate_problems(servers, renew_days=30) == [
        "the certificate of old ends in 14 days: run playbooks/rotate-certificates.yml",
        "the certificate of dead has ended: run playbooks/rotate-certificates.yml",
    ]


class Listed(list[dict[str, Any]]):
    """A collection that knows `{field: value}` and `{field: {"$ne": value}}`; others hold for all documents."""

    def find(self, query: dict[str, Any]) -> Listed:
        excluded = {key: rule["$ne"] for key, rule in query.items() if isinstance(rule, dict) and "$ne" in rule}
        return Listed(one for one in self if all(one.get(key) != value for key, value in excluded.items()))

    def sort(self, *_: Any) -> Listed:  # type: ignore[override]
        return self

    def aggregate(self, _: Any, **options: Any) -> list[dict[str, Any]]:
        self.options = options
        return []


def test_collection_that_8_0_lists_without_being_sharded_is_not_told_as_sharded() -> None:
    sharded = {"_id": "shop.orders", "key": {"region": 1}, "uuid": 1}
    moved = {"_id": "shop.notes", "key": {"_id": 1}, "uuid": 2, "unsplittable": True}

    class Client(dict[str, Any]):
        config = SimpleNamespace(chunks=Listed(), collections=Listed([moved, sharded]))
        admin = SimpleNamespace(command=lambda name: {"shards": [{"_id": "one"}], "mode": "full"})

    client: Any = Client(shop={"orders": Listed(), "notes": Listed()})
    assert [one["namespace"] for one in sharding_facts(client)["collections"]] == ["shop.orders"]


@pytest.mark.parametrize(("whole", "options"), [(True, {}), (False, {"maxTimeMS": 3000})])
def test_counts_are_given_up_soon_where_a_shard_is_known_to_have_no_primary(
    whole: bool, options: dict[str, int]
) -> None:
    """A router looks for a primary for 20 s, and whoever asks for the status knows already that there is none."""
    orders = Listed()

    class Client(dict[str, Any]):
        config = SimpleNamespace(chunks=Listed(), collections=Listed([{"_id": "shop.orders", "key": {}, "uuid": 1}]))
        admin = SimpleNamespace(command=lambda name: {"shards": [{"_id": "one"}], "mode": "full"})

    client: Any = Client(shop={"orders": orders})
    sharding_facts(client, whole=whole)
    assert orders.options == options
