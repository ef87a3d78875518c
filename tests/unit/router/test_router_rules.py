"""Small rules of the router: privileges, split pipelines, cluster time, flags."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from shardmart.router import cli
from shardmart.router.client import for_client
from shardmart.router.operations.authorization import Need, Privileges, pipeline_needs
from shardmart.router.operations.several_shards import split
from shardmart.router.protocol import rawbson
from shardmart.router.protocol.errors import RouterError, failure
from shardmart.router.protocol.scram import read_keyfile
from shardmart.router.routing.member import ClusterClock
from shardmart.router.routing.replica_set import parse_connection_string


def privileges(resource: dict[str, Any], *actions: str) -> Privileges:
    return Privileges([{"resource": resource, "actions": list(actions)}])


def test_any_database_does_not_mean_the_internal_ones() -> None:
    everywhere = privileges({"db": "", "collection": ""}, "find")
    assert everywhere.allow(Need("find", "shop", "orders"))
    assert not everywhere.allow(Need("find", "config", "shards"))
    assert not everywhere.allow(Need("find", "shop", "system.profile"))
    assert not everywhere.allow(Need("insert", "shop", "orders"))


def test_a_collection_privilege_covers_that_collection_only() -> None:
    orders = privileges({"db": "shop", "collection": "orders"}, "find")
    assert orders.allow(Need("find", "shop", "orders"))
    assert not orders.allow(Need("find", "shop", "users"))
    assert not orders.allow(Need("find", "shop"))
    assert not orders.allow(Need("find"))


def test_the_cluster_is_a_resource_of_its_own() -> None:
    assert privileges({"cluster": True}, "addShard").allow(Need("addShard"))
    assert not privileges({"db": "", "collection": ""}, "addShard").allow(Need("addShard"))


def test_needs_of_nested_pipelines_are_found() -> None:
    pipeline = [
        {"$match": {}},
        {"$facet": {"a": [{"$lookup": {"from": "b", "pipeline": [{"$unionWith": "c"}], "as": "x"}}]}},
        {"$merge": {"into": {"db": "other", "coll": "d"}, "whenMatched": "fail"}},
    ]
    needs = set(pipeline_needs("shop", "a", pipeline))
    expected = {Need("find", "shop", n) for n in "abc"} | {Need("insert", "other", "d")}
    assert needs == expected


@pytest.mark.parametrize("stage", ["$mergeCursors", "$_internalSplitPipeline", "$listLocalSessions"])
def test_stages_of_members_are_refused(stage: str) -> None:
    with pytest.raises(RouterError) as failure:
        pipeline_needs("shop", "a", [{stage: {}}, {stage: {}}])
    assert failure.value.code == 13


def test_groups_that_add_up_run_on_both_levels() -> None:
    shards, merge = split([{"$match": {"a": 1}}, {"$group": {"_id": "$r", "n": {"$sum": 1}, "m": {"$max": "$x"}}}])
    assert shards[-1] == {"$group": {"_id": "$r", "n": {"$sum": 1}, "m": {"$max": "$x"}}}
    assert merge == [{"$group": {"_id": "$_id", "n": {"$sum": "$n"}, "m": {"$max": "$m"}}}]


def test_groups_that_do_not_add_up_run_over_what_was_gathered() -> None:
    group = {"$group": {"_id": None, "a": {"$avg": "$x"}}}
    assert split([{"$match": {}}, group, {"$limit": 1}]) == ([{"$match": {}}], [group, {"$limit": 1}])


def test_a_time_from_the_future_is_not_believed() -> None:
    clock = ClusterClock()
    for lead, believed in ((30, True), (7200, False)):
        when = Timestamp(int(time.time()) + lead, 1)
        clock.observe_client(RawBSONDocument(rawbson.encode({"clusterTime": when})))
        assert (clock.latest == when) is believed


def test_a_members_change_of_state_is_not_the_routers() -> None:
    shown = for_client(RouterError(10107, "not primary"), None)
    assert (shown.code, shown.reply()["codeName"]) == (6, "HostUnreachable")


def test_a_members_error_keeps_its_name_and_details() -> None:
    reply = {"ok": 0.0, "code": 117, "codeName": "ConflictingOperationInProgress", "errmsg": "busy", "why": "moving"}
    shown = for_client(failure(reply | {"operationTime": Timestamp(1, 1)}), None)
    assert shown.reply() == reply


@pytest.mark.parametrize("text", ["", "host:1", "set/", "set/host", "set/host:x", "set/host:99999", "/host:1"])
def test_a_wrong_configdb_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_connection_string(text)


def test_a_keyfile_others_may_read_is_refused(tmp_path: Path) -> None:
    keyfile = tmp_path / "keyfile"
    keyfile.write_text("abc def\n123456\n")
    keyfile.chmod(0o644)
    with pytest.raises(ValueError, match="too open"):
        read_keyfile(keyfile)
    keyfile.chmod(0o400)
    assert read_keyfile(keyfile) == "abcdef123456"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--configdb", "nonsense"], "expected SET/host:port"),
        (["--configdb", "set/h:1", "--keyFile", "/nowhere"], "No such file"),
        (["--configdb", "set/h:1", "--port", "0"], "--port"),
        (["--configdb", "set/h:1", "--setParameter", "x=1"], "cursorGraceSeconds"),
        (["--configdb", "set/h:1", "--setParameter", "enableLocalhostAuthBypass=true"], "takes false"),
        (["--configdb", "set/h:1", "--tlsMode", "requireTLS"], "--tlsCertificateKeyFile"),
        (["--configdb", "set/h:1", "--tlsMode", "preferTLS"], "preferTLS needs mongos"),
        (["--configdb", "set/h:1", "--logpath", "/no/such/folder/log"], "/no/such/folder/log"),
    ],
)
def test_wrong_flags_cost_one_line_and_exit_code_2(arguments: list[str], words: str, capsys: Any) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_port_in_use_costs_one_line_and_exit_code_1(capsys: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["--configdb", "set/127.0.0.1:1", "--port", port]) == 1
    assert "cannot listen" in capsys.readouterr().err
