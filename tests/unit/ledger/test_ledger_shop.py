"""The shop's rules: a shop at rest breaks none, and each thing that can go wrong is found by its own name."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from psycopg.conninfo import conninfo_to_dict
from synthetic_run import SyntheticRun

from shardmart.declare import chart, release, topology
from shardmart.ledger import cli
from shardmart.ledger.checks.verdict import Verdict
from shardmart.ledger.journal import token
from shardmart.ledger.shop import http, rules, stores
from shardmart.ledger.shop.place import NoShopError, ShopPlace
from shardmart.ledger.workloads import WORKLOADS
from shardmart.platforms.state import State, StateError
from tests.support.clusters import ROOT

Final = dict[str, list[dict[str, Any]]]
BOUGHT, RETURNED = "APJ.u.bought", "APJ.u.returned"
FIRST = 100


def event(order: str, producer: str, number: int, kind: str, revision: int | None = None) -> dict[str, Any]:
    return {
        "_id": f"{order}/{producer}/{number}",
        "key": order,
        "producer": producer,
        "number": number,
        "type": kind,
        "revision": revision,
    }


def traces(id_: str, op: int, *, cancelled: bool) -> Final:
    """All that is left of an order of two pieces for 300 cents each, confirmed, and `cancelled` after that."""
    placed, asked, done = (
        event(id_, "order", n, k) for n, k in ((1, "order-placed"), (2, "payment-requested"), (3, "order-confirmed"))
    )
    reserved, paid = event(id_, "inventory", 1, "stock-reserved", 1), event(id_, "payment", 1, "payment-captured")
    undone = event(id_, "order", 4, "order-cancelled")
    released, refunded = event(id_, "inventory", 2, "stock-released"), event(id_, "payment", 2, "payment-refunded")
    more = [undone, released, refunded] if cancelled else []
    found: Final = {
        stores.ORDERS: [
            {
                "_id": id_, "op": op, "customer": "APJ.u", "status": "cancelled" if cancelled else "confirmed",
                "total_cents": 600, "items": [["p", 2, 300]], "city": "placed", "version": 5 if cancelled else 3,
                "revision": 1, "told": 4 if cancelled else 3, "reason": None,
                "inbox": [reserved["_id"], paid["_id"]] + [refunded["_id"]] * cancelled,
                "history": ["pending", "reserved", "confirmed"] + ["cancelled", "refunded"] * cancelled,
            }
        ],
        stores.RESERVATIONS: [
            {
                "_id": id_, "state": "released" if cancelled else "taken", "revision": 1, "told": 2 if cancelled else 1,
                "inbox": [placed["_id"], done["_id"]] + [undone["_id"]] * cancelled,
                "pieces": {} if cancelled else {"p": 2},
            }
        ],
        stores.PAYMENTS: [
            {
                "_id": id_, "state": "refunded" if cancelled else "captured", "amount_cents": 600,
                "charge": f"ch-{id_}",
                "refund": f"re-{id_}" if cancelled else None, "told": 2 if cancelled else 1,
                "inbox": [asked["_id"]] + [undone["_id"]] * cancelled,
            }
        ],
        stores.EVENTS: [placed, asked, done, reserved, paid, *more],
        stores.PROVIDER: [
            {"order": id_, "answer": "captured", "amount_cents": 600, "reference": f"ch-{id_}"},
            *[{"order": id_, "answer": "refunded", "amount_cents": 600, "reference": f"re-{id_}"}] * cancelled,
        ],
    }  # fmt: skip
    told = [one for one in found[stores.EVENTS] if one["type"] in rules.TOLD_OF]
    found[stores.NOTIFICATIONS] = [
        {"_id": one["_id"], "key": id_, "type": one["type"], "state": "sent"} for one in told
    ]
    return found


def at_rest() -> Final:
    """A confirmed order and a cancelled one, and a product of which two pieces are gone."""
    one, other = traces(BOUGHT, token(0, 1), cancelled=False), traces(RETURNED, token(0, 2), cancelled=True)
    final: Final = {name: one.get(name, []) + other.get(name, []) for name in stores.KINDS}
    final[stores.STOCK] = [{"_id": "p", "available": FIRST - 2, "version": 4, "held": 2}]
    final[stores.CACHE] = [{"_id": "p", "cached": FIRST - 2}]
    return final


def kinds(final: Final) -> set[str]:
    return {problem.kind for problem in rules.problems(final.__getitem__)}


def of(final: Final, kind: str, key: str = BOUGHT) -> dict[str, Any]:
    return next(one for one in final[kind] if key in (one.get("_id"), one.get("order")))


def test_a_shop_at_rest_breaks_no_rule() -> None:
    assert list(rules.problems(at_rest().__getitem__)) == []


def _charged_again(final: Final) -> None:
    final[stores.PROVIDER].append(of(final, stores.PROVIDER) | {"reference": "another"})


def _drop(kind: str, key: str, number: int = 0) -> Callable[[Final], None]:
    def drop(final: Final) -> None:
        found = [one for one in final[kind] if key in (one.get("_id"), one.get("order"), one.get("key"))]
        final[kind].remove(found[number])

    return drop


def _set(kind: str, key: str, **values: Any) -> Callable[[Final], None]:
    return lambda final: of(final, kind, key).update(values)


def _again(kind: str, key: str) -> Callable[[Final], None]:
    return lambda final: final[kind].append(copy.deepcopy(of(final, kind, key)))


CONFIRMED_EVENT = f"{BOUGHT}/order/3"


@pytest.mark.parametrize(
    ("expected", "happens"),
    [
        ({"charged-twice"}, _charged_again),
        ({"money", "provider-differs"}, _drop(stores.PROVIDER, BOUGHT)),
        ({"money", "provider-differs"}, _drop(stores.PROVIDER, RETURNED, 1)),
        ({"money"}, _set(stores.ORDERS, BOUGHT, items=[["p", 2, 301]])),
        ({"provider-differs"}, _set(stores.PAYMENTS, BOUGHT, charge="another")),
        ({"provider-differs"}, _again(stores.PAYMENTS, BOUGHT)),
        ({"unfinished"}, _set(stores.PAYMENTS, RETURNED, state="refunding", refund=None)),
        ({"unfinished"}, _set(stores.RESERVATIONS, BOUGHT, state="held")),
        ({"unfinished"}, _set(stores.NOTIFICATIONS, CONFIRMED_EVENT, state="queued")),
        ({"pieces"}, _set(stores.RESERVATIONS, BOUGHT, pieces={"p": 1})),
        ({"pieces"}, _set(stores.RESERVATIONS, RETURNED, pieces={"p": 2})),
        ({"pieces"}, _again(stores.RESERVATIONS, BOUGHT)),
        ({"event-lost"}, _set(stores.ORDERS, BOUGHT, told=4)),
        ({"event-lost"}, _drop(stores.EVENTS, f"{BOUGHT}/inventory/1")),
        ({"event-doubled"}, _again(stores.EVENTS, f"{BOUGHT}/payment/1")),
        ({"event-doubled"}, _set(stores.PAYMENTS, BOUGHT, inbox=[f"{BOUGHT}/order/2"] * 2)),
        ({"event-order"}, _set(stores.RESERVATIONS, BOUGHT, inbox=[CONFIRMED_EVENT, f"{BOUGHT}/order/1"])),
        ({"effect-lost"}, _set(stores.PAYMENTS, RETURNED, inbox=[f"{RETURNED}/order/2"])),
        ({"untold"}, _drop(stores.NOTIFICATIONS, CONFIRMED_EVENT)),
        ({"told-twice"}, _again(stores.NOTIFICATIONS, CONFIRMED_EVENT)),
        ({"history"}, _set(stores.ORDERS, BOUGHT, history=["pending", "confirmed", "reserved", "confirmed"])),
        ({"oversold", "cache-differs"}, _set(stores.STOCK, "p", available=-1)),
        ({"cache-differs"}, _set(stores.CACHE, "p", cached=FIRST)),
        (set(), _set(stores.CACHE, "p", cached=None)),
    ],
)
def test_each_thing_that_can_go_wrong_is_found_by_its_name(
    expected: set[str], happens: Callable[[Final], None]
) -> None:
    final = at_rest()
    happens(final)
    assert kinds(final) == expected


def test_a_consumer_that_forgot_a_payment_is_told_from_an_event_that_was_never_written() -> None:
    final = at_rest()
    of(final, stores.ORDERS).update(status="reserved", history=["pending", "reserved"], told=2)
    final[stores.PAYMENTS] = [one for one in final[stores.PAYMENTS] if one["_id"] != BOUGHT]
    final[stores.EVENTS] = [
        one for one in final[stores.EVENTS] if one["_id"] not in {CONFIRMED_EVENT, f"{BOUGHT}/payment/1"}
    ]
    of(final, stores.ORDERS)["inbox"].remove(f"{BOUGHT}/payment/1")
    of(final, stores.RESERVATIONS)["inbox"].remove(CONFIRMED_EVENT)
    assert kinds(final) >= {"unfinished", "effect-lost"}
    assert "event-lost" not in kinds(final)
    final[stores.EVENTS] = [one for one in final[stores.EVENTS] if one["_id"] != f"{BOUGHT}/order/2"]
    assert kinds(final) >= {"unfinished", "event-lost"}
    assert "effect-lost" not in kinds(final)


@pytest.fixture
def journal(synthetic: Callable[[str], SyntheticRun]) -> SyntheticRun:
    run = synthetic("shop")
    run.final = at_rest()
    return run


OPENED = {"customers": ["APJ.u"], "products": ["p"], "first": {"p": FIRST}}
BUY = {"customer": 0, "items": [[0, 2]]}


def order(id_: str, op: int) -> dict[str, Any]:
    return {"id": id_, "op": op, "version": 1, "items": [["p", 2]]}


def judged(run: SyntheticRun, *more: tuple[Any, ...]) -> Verdict:
    run.client(
        0,
        [
            ("open", {}, "ok", OPENED),
            ("place", BUY, "ok", order(BOUGHT, token(0, 1))),
            ("place", BUY, "ok", order(RETURNED, token(0, 2))),
            *more,
        ],
    )
    return run.check()


def test_a_run_whose_orders_are_all_there_is_clean_and_has_its_figures(journal: SyntheticRun) -> None:
    verdict = judged(journal, ("look", {"id": BOUGHT}, "ok", ["confirmed", 3]), ("cancel", {"id": RETURNED}, "ok", 1))
    assert verdict.clean, verdict.anomalies
    assert verdict.figures["shop"] == {
        "accepted": 2, "confirmed": 1, "cancelled": 1, "lost": 0, "charged-twice": 0, "oversold": 0
    }  # fmt: skip


def test_an_accepted_order_that_is_not_there_is_lost_and_shown(journal: SyntheticRun) -> None:
    verdict = judged(journal, ("place", BUY, "ok", order("APJ.u.gone", token(0, 3))))
    assert dict(verdict.counts) == {"lost": 1}
    assert "APJ.u.gone" in verdict.anomalies[0].operations[0]


def test_an_order_that_was_refused_and_is_there_all_the_same_is_a_phantom(journal: SyntheticRun) -> None:
    journal.final[stores.ORDERS][0]["op"] = token(0, 3)
    assert set(judged(journal, ("place", BUY, "failed", None)).counts) == {"lost", "phantom"}


def test_an_order_that_one_key_placed_twice_is_doubled(journal: SyntheticRun) -> None:
    journal.final[stores.ORDERS][1]["op"] = token(0, 1)
    assert judged(journal).counts["doubled"] == 1


def test_an_order_whose_answer_was_lost_may_be_there_or_not(journal: SyntheticRun) -> None:
    journal.final[stores.ORDERS][0]["op"] = token(0, 3)
    assert dict(judged(journal, ("place", BUY, "never", None)).counts) == {"lost": 1}  # the one that was acknowledged


def test_a_cancellation_that_was_acknowledged_and_did_not_stay_is_lost(journal: SyntheticRun) -> None:
    assert dict(judged(journal, ("cancel", {"id": BOUGHT}, "ok", 1)).counts) == {"lost": 1}


def test_a_change_that_was_acknowledged_and_did_not_stay_is_lost(journal: SyntheticRun) -> None:
    change = {"id": BOUGHT, "op": token(0, 1), "version": 1, "product": "p", "quantity": 2}
    assert dict(judged(journal, ("change", change, "ok", 2)).counts) == {"lost": 1}


@pytest.mark.parametrize("outcome", ["ok", "never"])
def test_a_change_is_known_by_its_token_also_when_its_answer_was_lost(journal: SyntheticRun, outcome: str) -> None:
    of(journal.final, stores.ORDERS)["city"] = str(token(0, 3))
    change = {"id": BOUGHT, "op": token(0, 1), "version": 1, "product": "p", "quantity": 2}
    assert judged(journal, ("change", change, outcome, 2)).clean


def test_a_look_that_finds_an_older_order_is_stale(journal: SyntheticRun) -> None:
    looks = [("look", {"id": BOUGHT}, "ok", ["confirmed", 3]), ("look", {"id": BOUGHT}, "ok", ["reserved", 2])]
    assert dict(judged(journal, *looks).counts) == {"stale": 1}


@pytest.mark.parametrize(("there", "found"), [(0, 1), (5, 0), (8, 0), (9, 1)])
def test_pieces_add_up_with_those_that_came_in_and_those_that_perhaps_did(
    journal: SyntheticRun, there: int, found: int
) -> None:
    journal.final[stores.STOCK][0]["available"] += there
    journal.final[stores.CACHE] = []
    more = [("restock", {"product": 0, "quantity": 5}, "ok", 1), ("restock", {"product": 0, "quantity": 3}, "never", 0)]
    assert judged(journal, *more).counts["oversold"] == found


def test_a_shop_is_not_among_all_workloads_because_not_every_cluster_has_one() -> None:
    assert WORKLOADS["shop"].by_name_only
    assert "shop" not in [workload.name for workload in cli._workloads(["all"])]
    assert [workload.name for workload in cli._workloads(["shop"])] == ["shop"]


def test_a_cluster_without_a_shop_is_told_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cluster.json").write_text(
        topology.load(ROOT / "inventories" / "topology.yml").resolve(lambda _: ("127.0.0.1", 1)).dumps()
    )
    monkeypatch.delenv("SHARDMART_URI", raising=False)
    arguments = ["run", "--workload", "shop", "--journal", str(tmp_path / "j"), "--state", str(tmp_path)]
    assert cli.main(arguments) == 3
    assert capsys.readouterr().err.strip().endswith("has no shop: `make shop` starts one")
    with pytest.raises(NoShopError):
        ShopPlace.of(State(tmp_path))


def test_the_ledger_checks_whom_it_reaches_where_the_shop_speaks_tls(tmp_path: Path) -> None:
    file = tmp_path / "topology.yml"
    file.write_text(f"extends: {ROOT}/inventories/topologies/tls.yml\nservices: {{}}\nbackends: {{store: postgres}}\n")
    (tmp_path / "cluster.json").write_text(topology.load(file).resolve().dumps())
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").write_text("")
    (tmp_path / "secrets").mkdir()
    for name in ("shop-tokens", "shop-provider", "shop-cache", "shop-postgres-ledger"):
        (tmp_path / "secrets" / f"{name}.password").write_text("p" * 40)
    place = ShopPlace.of(State(tmp_path))
    authority = str(tmp_path / "tls" / "ca.pem")
    told = conninfo_to_dict(place.store_uri)
    assert (told["user"], told["sslmode"], told["sslrootcert"]) == ("shop_ledger", "verify-full", authority)


@pytest.mark.parametrize("given", [False, True])
def test_in_pods_it_checks_postgresql_by_an_authority_of_its_own(tmp_path: Path, given: bool) -> None:
    file = tmp_path / "topology.yml"
    more = ", postgres_host: db.example.net" if given else ""
    declared = f"extends: {ROOT}/inventories/topologies/tls.yml\nservices: {{}}\nbackends: {{store: postgres{more}}}\n"
    file.write_text(declared)
    values = chart.chart_values(topology.load(file))
    pods = release.describe(chart.document(values, release.Release("lab", "shop", "lab")))
    (tmp_path / "cluster.json").write_text(pods.dumps())
    (tmp_path / "tls").mkdir()
    (tmp_path / "secrets").mkdir()
    for name in ("shop-tokens", "shop-provider", "shop-cache", "shop-postgres-ledger"):
        (tmp_path / "secrets" / f"{name}.password").write_text("p" * 40)
    (tmp_path / "tls" / "ca.pem").write_text("of the cluster")
    with pytest.raises(StateError, match=r"the shop's cache speaks TLS and .*shop-cache-ca.pem is missing"):
        ShopPlace.of(State(tmp_path))
    (tmp_path / "tls" / "shop-cache-ca.pem").write_text("of the cache")
    if given:
        assert conninfo_to_dict(ShopPlace.of(State(tmp_path)).store_uri)["sslmode"] == "require"
    else:
        with pytest.raises(StateError, match=r"the shop's postgres speaks TLS and .*shop-postgres-ca.pem is missing"):
            ShopPlace.of(State(tmp_path))
    (tmp_path / "tls" / "shop-postgres-ca.pem").write_text("of PostgreSQL")
    place = ShopPlace.of(State(tmp_path))
    told = conninfo_to_dict(place.store_uri)
    host = "db.example.net" if given else "lab-shop-postgres.shop.svc.cluster.local"
    assert (told["host"], told["sslmode"]) == (host, "verify-full")
    assert told["sslrootcert"] == str(tmp_path / "tls" / "shop-postgres-ca.pem")
    assert place.cache_url is not None
    assert place.cache_url.startswith("rediss://")
    assert place.cache_url.endswith("shop-cache-ca.pem")


def test_the_services_take_the_ledgers_tokens() -> None:
    place = ShopPlace({}, "k" * 40, "", "", "", ())
    claims = jwt.decode(place.token("APJ.u"), "k" * 40, algorithms=["HS256"], audience="shop")
    assert claims["sub"] == "customer:APJ.u"
    assert jwt.decode(place.token(None), "k" * 40, algorithms=["HS256"], audience="shop")["sub"] == "operator"


def test_a_request_that_reached_nobody_failed_and_one_without_an_answer_is_unknown() -> None:
    client = http.HttpClient(0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(http.RequestError) as caught:
            client.until_answered("POST", f"http://127.0.0.1:{port}/orders", "t", "key", {})
        assert caught.value.outcome == "unknown"
    with pytest.raises(http.RequestError) as caught:
        client.until_answered("POST", f"http://127.0.0.1:{port}/orders", "t", "key", {})
    assert caught.value.outcome == "failed"
