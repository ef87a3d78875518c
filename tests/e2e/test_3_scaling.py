"""More of everything by the topology and the same command; fewer is refused; more than one router works."""

from __future__ import annotations

import json

import yaml

from tests.support.kind_site import ROOT, KindSite, Made

DECLARED = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
SHARD_3 = {"name": "shard3ReplSet", "members": 1, "zones": ["EMEA"]}

THROUGH_THE_SERVICE = """
import json, sys
from pathlib import Path
from pymongo import MongoClient
from shardmart.platforms.state import State
state = State(Path("/state"))
name = state.description().kubernetes.release
answers = {"orders": [], "transactions": 0}
for number in range(12):
    # A pool of many connections, all through the one address of the Service.
    password = state.password("admin")
    with MongoClient(f"mongodb://{name}:27017", username="admin", password=password, minPoolSize=8) as client:
        orders = client.ecommerce.orders
        cursors = [orders.find({}, batch_size=2) for _ in range(8)]
        rows = [[next(cursor)["_id"] for cursor in cursors] for _ in range(30)]
        answers["orders"].append(len({str(row[0]) for row in rows}))
        with client.start_session() as session, session.start_transaction():
            for _ in range(5):
                client.ecommerce.products.find_one({}, session=session)
            answers["transactions"] += 1
print(json.dumps(answers))
"""


def test_one_more_shard_member_and_router(made: Made) -> None:
    site = made.site
    quiet = {"priority": 0, "votes": 0}
    first, second = DECLARED["shards"]
    site.write(
        shards=[first, second | {"members": [{}, {}, {}, quiet]}, SHARD_3],
        routers=DECLARED["routers"] | {"count": 2},
    )
    grown = site.play("site.yml")
    assert grown.code == 0, grown.output
    sets = site.sets()
    assert sets["shard3ReplSet"]["states"] == {"shard3-1": "PRIMARY"}
    assert sorted(sets["shard2ReplSet"]["states"].values()) == ["PRIMARY", "SECONDARY", "SECONDARY", "SECONDARY"]
    status = json.loads(site.toolbox("shardmart", "status", "--json"))
    assert status["problems"] == []
    assert [shard["name"] for shard in status["sharding"]["shards"]] == [s["name"] for s in site.document["shards"]]
    assert len(status["routers"]) == 2
    site.assert_data_complete()
    identities = site.identities()
    assert {name: identities[name] for name in made.identities} == made.identities


def test_cursors_and_transactions_work_through_a_service_of_two_routers(site: KindSite) -> None:
    answers = json.loads(site.toolbox("python3", "-", text=THROUGH_THE_SERVICE))
    assert answers["orders"] == [30] * 12
    assert answers["transactions"] == 12


def test_lost_router_takes_no_requests(site: KindSite) -> None:
    name = f"{site.name}-mongos-2"
    address = site.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}")
    site.kubectl("delete", "pod", name, "--wait=false")

    def serving() -> set[str]:
        slices = site.get("endpointslices", f"--selector=kubernetes.io/service-name={site.name}")
        ends = [end for found in slices for end in found.get("endpoints") or [] if end["conditions"]["ready"]]
        return {address for end in ends for address in end["addresses"]}

    site.wait("the Service to forget it", lambda: address not in serving(), seconds=30)
    site.wait("the new pod to serve", lambda: len(serving()) == 2)


def test_fewer_are_refused_with_a_line_that_says_why(site: KindSite) -> None:
    grown = site.document["shards"]
    without_shard = grown[:-1]
    without_member = [grown[0], grown[1] | {"members": 3}, grown[2]]
    for shards, line in (
        (without_shard, f"{site.name}-shard3 runs here and these values do not have it: its documents would be lost"),
        (without_member, f"{site.name}-shard2 has 4 members and these values only 3: fewer members are refused"),
    ):
        site.write(shards=shards)
        refused = site.play("playbooks/provision.yml")
        assert refused.code == 2
        assert line in " ".join(refused.output.split()), refused.output
    site.write(shards=grown)
    assert len(site.sets()) == 4, "what runs and its description are as before"
