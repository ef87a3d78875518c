"""Claims of the console's page: what is not well is said in words, and nothing from elsewhere becomes markup."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from shardmart.shop.console import page
from shardmart.shop.console.cluster import Set, faults
from shardmart.shop.console.view import Answer, OrderLine, Picture, addresses


def picture(**parts: object) -> Picture:
    well = Answer("order-1", "http://127.0.0.1:30010", True, "", {"events_handled": 3, "lag_ms": {"p50": 4.2}})
    everything: dict[str, object] = {
        "services": {"order": (well,)}, "by_status": {"confirmed": 1234}, "low": (), "orders": (),
        "rates": {"placed": 1.5}, "streaming": True, "at": 0.0,
    }  # fmt: skip
    return Picture(**everything | parts)  # type: ignore[arg-type]


def test_a_shop_that_is_well_says_so() -> None:
    html = page.frame(picture())
    assert "✓ all 1 instances are ready" in html
    assert "<dd>1,234</dd>" in html
    assert "4 ms" in html


def test_an_instance_that_is_away_is_a_line_with_the_reason() -> None:
    gone = Answer("payment at 127.0.0.1:30030", "http://127.0.0.1:30030", False, "Connection refused", None)
    assert "✗ payment at 127.0.0.1:30030 is away: Connection refused" in page.panels(
        picture(services={"payment": (gone,)})
    )


def test_a_mistake_on_purpose_parked_events_and_a_lost_cache_are_told() -> None:
    told = {"faults": ["charge-without-idempotency"], "parked": 2, "cache": "away"}
    html = page.panels(picture(services={"payment": (Answer("payment-1", "", True, "", told),)}))
    assert "✗ payment-1 makes a mistake on purpose: charge-without-idempotency" in html
    assert "✗ payment-1 has parked 2 events" in html
    assert "✗ payment-1 works without the cache" in html


def test_a_set_without_a_primary_and_a_member_that_is_away_are_told() -> None:
    config = Set("configReplSet", {"127.0.0.1:27101": "primary"})
    shard = Set("shard1ReplSet", {"127.0.0.1:27201": "away", "127.0.0.1:27202": "secondary"}, 12_345)
    html = page.panels(picture(sets=(config, shard)))
    assert "✗ 127.0.0.1:27201 of shard1ReplSet is away" in html
    assert "✗ shard1ReplSet has no primary" in html
    assert "configReplSet has no primary" not in html
    assert "<td class='number'>12,345</td>" in html


def fault(folder: Path, name: str, **parts: object) -> None:
    """As chaos writes it down."""
    record: dict[str, object] = {"id": name, "name": name, "targets": ["mongos1"], "duration_s": 20.0, "begun": 1000.0}
    (folder / f"{name}.json").write_text(json.dumps(record | {"status": "active"} | parts))


def test_only_faults_that_are_not_undone_are_shown_with_the_time_they_have_left(tmp_path: Path) -> None:
    fault(tmp_path, "latency")
    fault(tmp_path, "kill", status="beginning", begun=None)
    fault(tmp_path, "partition", status="ended")
    fault(tmp_path, "pause", begun=100.0)
    (tmp_path / "half.json").write_text('{"name": ')
    shown = faults(tmp_path, 1005.0)
    assert shown == (
        "kill on mongos1, 20 s left",
        "latency on mongos1, 15 s left",
        "pause on mongos1: over for long and not undone; `shardmart chaos heal` does it",
    )
    assert "⚡ latency on mongos1, 15 s left" in page.panels(picture(faults=shown))
    assert "Faults on purpose" not in page.panels(picture())
    assert faults(tmp_path / "none", 0.0) == ()


def test_what_does_not_answer_is_said_and_the_rest_is_shown() -> None:
    html = page.panels(picture(by_status=None, low=None, streaming=False))
    assert "the order service does not tell its counts" in html
    assert "the inventory service does not tell" in html
    assert "✗ the live stream of orders is away" in html
    assert "order-1" in html


def test_nothing_that_came_from_elsewhere_is_markup() -> None:
    bad = "<script>alert(1)</script>"
    answer = Answer(bad, bad, False, bad, {"faults": [bad], "events_handled": 1, "parked": bad})
    html = page.panels(
        picture(
            services={bad: (answer,)}, by_status={bad: 1}, low=({"product_id": bad, "available": bad},),
            orders=(OrderLine(f"EMEA.{bad}", [bad]),), sets=(Set(bad, {bad: bad}),), faults=(bad,),
        )
    )  # fmt: skip
    assert "<script" not in html


def test_a_name_of_several_addresses_is_as_many_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a headless Service of Kubernetes answers: one address for each pod."""

    def several(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host != "order-pods":
            raise socket.gaierror(f"no {host}")
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.7", "fd00::7", "10.0.0.7")]

    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_, **more: several(host, port, **more))
    assert asyncio.run(addresses("http://order-pods:3001")) == ["http://10.0.0.7:3001", "http://[fd00::7]:3001"]
    assert asyncio.run(addresses("http://nobody:3001")) == ["http://nobody:3001"]


def test_an_address_is_one_instance() -> None:
    assert asyncio.run(addresses("http://127.0.0.1:30010")) == ["http://127.0.0.1:30010"]
    assert asyncio.run(addresses("http://localhost:30010")) == ["http://localhost:30010"]
