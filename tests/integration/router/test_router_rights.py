"""What members would do for anybody, since the router is `__system` to them, it does for those who have the right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.integration.router.sharded import failing
from tests.integration.router.test_router_survival import wait_until
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def clerk(cluster: EmbeddedCluster) -> Iterator[MongoClient[dict[str, Any]]]:
    """readWrite on `desk`, nothing else."""
    with cluster.client() as admin:
        admin.desk.things.insert_many([{"_id": i} for i in range(50)])
        admin.vault.gold.insert_many([{"_id": i} for i in range(50)])
        roles = [{"role": "readWrite", "db": "desk"}]
        admin.admin.command("createRole", "modify views", privileges=[
            {"resource": {"db": "desk", "collection": ""}, "actions": ["collMod", "createCollection"]},
        ], roles=[])  # fmt: skip
        admin.admin.command("createUser", "clerk", pwd="pencil", roles=[*roles, "modify views"])
        with MongoClient(f"mongodb://clerk:pencil@{cluster.router}/") as client:
            yield client
        admin.admin.command("dropUser", "clerk")
        admin.admin.command("dropRole", "modify views")
        for name in ("desk", "vault"):
            admin.drop_database(name)


def test_current_operations_of_others_are_for_those_who_may(
    client: MongoClient[dict[str, Any]], clerk: MongoClient[dict[str, Any]]
) -> None:
    stop = threading.Event()

    def ask(collection: Any, where: str) -> None:
        while not stop.is_set():
            list(collection.find({"$where": where}))

    slow = threading.Thread(target=ask, args=(client.vault.gold, "sleep(20) || 'a secret question'"))
    mine = threading.Thread(target=ask, args=(clerk.desk.things, "sleep(40) || true"))
    slow.start()
    mine.start()

    def shown(connected: MongoClient[dict[str, Any]], **options: Any) -> str:
        return str(list(connected.admin.aggregate([{"$currentOp": options}])))

    try:
        wait_until(lambda: "a secret question" in shown(client, allUsers=True), "the operation to be seen")
        wait_until(lambda: "sleep(40)" in shown(clerk), "one's own operation to be seen")
        for _ in range(10):
            assert "a secret question" not in shown(clerk)
    finally:
        stop.set()
    failing(13, lambda: shown(clerk, allUsers=True))
    slow.join()
    mine.join()


def test_sessions_of_others_are_for_those_who_may(clerk: MongoClient[dict[str, Any]]) -> None:
    sessions = clerk.config["system.sessions"]
    for argument in ({"allUsers": True}, {"users": [{"user": "admin", "db": "admin"}]}):
        failing(13, lambda argument=argument: list(sessions.aggregate([{"$listSessions": argument}])))
    assert all(d["_id"]["uid"] for d in sessions.aggregate([{"$listSessions": {}}]))


@pytest.mark.parametrize("stage", ["$collStats", "$indexStats", "$listCatalog", "$planCacheStats"])
@pytest.mark.parametrize("nested", [False, True])
def test_statistics_need_their_own_right_on_their_collection(
    clerk: MongoClient[dict[str, Any]], stage: str, nested: bool
) -> None:
    argument: dict[str, Any] = {"count": {}} if stage == "$collStats" else {}
    pipeline: list[Any] = [{stage: argument}]
    if nested:
        pipeline = [{"$unionWith": {"coll": "system.profile", "pipeline": pipeline}}]
        failing(13, lambda: list(clerk.desk.things.aggregate(pipeline)))
    else:
        failing(13, lambda: list(clerk.vault.gold.aggregate(pipeline)))


def test_a_stage_nobody_knows_reaches_no_member(clerk: MongoClient[dict[str, Any]]) -> None:
    failing(40324, lambda: list(clerk.desk.things.aggregate([{"$secretStage": {}}])))
    failing(40324, lambda: list(clerk.desk.things.aggregate([{"$facet": {"a": [{"$secretStage": {}}]}}])))


def test_a_view_shows_nothing_its_maker_may_not_read(clerk: MongoClient[dict[str, Any]]) -> None:
    peek = [{"$unionWith": "system.profile"}]
    failing(13, lambda: clerk.desk.create_collection("peek", viewOn="things", pipeline=peek))
    clerk.desk.create_collection("plain", viewOn="things", pipeline=[])
    failing(13, lambda: clerk.desk.command("collMod", "plain", viewOn="things", pipeline=peek))
    clerk.desk.command("collMod", "plain", viewOn="things", pipeline=[{"$match": {"_id": 1}}])
    assert clerk.desk.plain.count_documents({}) == 1


def test_nobody_ends_the_sessions_of_another(
    client: MongoClient[dict[str, Any]], clerk: MongoClient[dict[str, Any]]
) -> None:
    with client.start_session() as session, session.start_transaction():
        reply = client.vault.command("find", "gold", batchSize=2, session=session)
        client.vault.gold.insert_one({"_id": "kept"}, session=session)
        assert session.session_id
        identity = {"id": session.session_id["id"]}
        for name in ("endSessions", "killSessions"):
            clerk.admin.command(name, [identity])
        clerk.admin.command("ping")
        more = client.vault.command("getMore", Int64(reply["cursor"]["id"]), collection="gold", session=session)
        assert len(more["cursor"]["nextBatch"]) >= 48
    assert client.vault.gold.find_one({"_id": "kept"})


def test_a_role_of_the_right_kind_is_enough(cluster: EmbeddedCluster, clerk: MongoClient[dict[str, Any]]) -> None:
    assert next(clerk.desk.things.aggregate([{"$collStats": {"count": {}}}]))["count"] == 50
    with cluster.client() as admin:
        assert list(admin.desk.things.aggregate([{"$indexStats": {}}]))
        assert list(admin.config["system.sessions"].aggregate([{"$listSessions": {"allUsers": True}}])) is not None


def test_a_partial_result_says_so(cluster: EmbeddedCluster, client: MongoClient[dict[str, Any]]) -> None:
    client.drop_database("partial")
    client.admin.command("shardCollection", "partial.things", key={"_id": "hashed"})
    client.partial.things.insert_many([{"_id": i} for i in range(400)])
    ask = {"batchSize": 10, "allowPartialResults": True, "sort": {"_id": 1}}
    whole = client.partial.command("find", "things", **ask)["cursor"]
    assert "partialResultsReturned" not in whole
    cluster.kill("shard2-1")
    try:
        with pytest.raises(OperationFailure):
            client.partial.command("find", "things", maxTimeMS=1500)
        part = client.partial.command("find", "things", maxTimeMS=3000, **ask)["cursor"]
        assert part["partialResultsReturned"] is True
        assert len(part["firstBatch"]) == 10
        rest = list(client.partial.things.find(allow_partial_results=True))
        assert 0 < len(rest) < 400
    finally:
        cluster.start("shard2-1")
    wait_until(lambda: len(list(client.partial.things.find(allow_partial_results=True))) == 400, "the shard to be back")
    client.drop_database("partial")
