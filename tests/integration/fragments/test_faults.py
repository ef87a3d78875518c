"""Claims of the faults on region nodes: each hits all processes of a server, is proved, and ends from its record."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.faults.regions import CutRegion, KillRegion, PauseRegion, WithoutRule
from shardmart.chaos.packets.flows import OUTSIDE, Owners
from shardmart.chaos.targets import databases, regions
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import regions as toolkit
from shardmart.cluster.host.processes import has_ended, stop
from shardmart.cluster.protocol.connection import Deadline
from shardmart.fragments.configuration import Configuration, Node
from shardmart.fragments.connection import administrator, rows, scalar
from shardmart.fragments.peers import status
from shardmart.platforms import repair_timer
from shardmart.platforms.state import State
from tests.support.region_nodes import REGIONS, RegionNodes, until

ONE = {"name": "configReplSet", "members": [{"name": "configsvr1", "host": "127.0.0.1", "port": 1}]}
CLUSTER = {
    "name": "beside", "platform": "embedded", "config_servers": ONE,
    "shards": [{"name": "s", "members": [{"name": "s1", "host": "127.0.0.1", "port": 2}]}],
    "routers": [{"name": "mongos1", "host": "127.0.0.1", "port": 3}],
}  # fmt: skip

pytestmark = pytest.mark.full


@pytest.fixture
def targets(nodes: RegionNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Targets]:
    """A cluster that does not run, with the region nodes beside it."""
    (nodes.folder / "cluster.json").write_text(json.dumps(CLUSTER))
    monkeypatch.setenv("SHARDMART_STATE", str(nodes.folder))
    yield Targets(State(nodes.folder))
    stop([repair_timer.process(nodes.folder, 1)])


def test_regions_are_found_by_name_and_others_are_refused(targets: Targets) -> None:
    assert [server.name for server in regions.named(targets.state, "regions")] == list(REGIONS)
    assert [server.name for server in regions.named(targets.state, ["LATAM", "APJ"])] == ["LATAM", "APJ"]
    assert targets.server("EMEA").port == regions.named(targets.state, "EMEA")[0].port
    with pytest.raises(ChaosError, match="no region server 'NA'; there are APJ, EMEA, LATAM and regions"):
        regions.named(targets.state, "NA")


def test_a_killed_region_has_no_process_left_and_comes_back(nodes: RegionNodes, targets: Targets) -> None:
    fault = KillRegion(targets, regions.named(targets.state, "EMEA"), 5)
    fault.prepare()
    before = databases.family(regions.process(targets.state, fault.servers[0]))
    fault.begin()
    assert fault.is_gone()
    assert [process for process in before if not has_ended(process)] == []
    with pytest.raises(ChaosError, match="EMEA does not run: nothing to break"):
        fault.prepare()
    again = KillRegion(targets, list(fault.servers), 5)
    again.end()
    again.end()
    assert not fault.is_gone()
    status.wait_until_streaming(nodes.configuration, 60)


def test_a_paused_region_is_silent_with_all_its_processes_and_goes_on(nodes: RegionNodes, targets: Targets) -> None:
    fault = PauseRegion(targets, regions.named(targets.state, "LATAM"), 5)
    fault.prepare()
    assert not fault.is_stopped()
    assert regions.answers(fault.servers[0], timeout_s=10)
    fault.begin()
    try:
        assert fault.is_stopped()
        stopped = [process.status() for process in databases.family(regions.process(targets.state, fault.servers[0]))]
        assert len(stopped) > 5
        assert set(stopped) == {psutil.STATUS_STOPPED}
    finally:
        PauseRegion(targets, list(fault.servers), 5).end()
    assert regions.answers(fault.servers[0], timeout_s=10)
    status.wait_until_streaming(nodes.configuration, 60)


def test_packets_between_peers_are_told_from_those_of_clients(nodes: RegionNodes, targets: Targets) -> None:
    """A worker's connection to its peer belongs to the node whose worker it is, though another process has it."""
    owners = Owners(list(CutRegion(targets, [], 5).endpoints()), set(REGIONS))
    for node in nodes.configuration.nodes:
        assert_ports_are_known(nodes.configuration, node, owners)


def assert_ports_are_known(configuration: Configuration, node: Node, owners: Owners) -> None:
    others = {other.name for other in configuration.others(node)}
    with administrator(configuration, node) as connection:
        ours = scalar(connection, "SELECT client_port FROM pg_stat_activity WHERE pid = pg_backend_pid()")

        def told() -> set[str]:
            """Who has a connection to this node for what it tells, whatever its sender does right now."""
            ports = [port for (port,) in rows(connection, "SELECT client_port FROM pg_stat_replication")]
            owners.scan()
            return {owners.name(port) for port in ports}

        # A worker that was cut off or paused a moment ago comes back with a new connection.
        until(f"the peers of {node.name} to be known by their ports", lambda: told() == others)
        assert owners.name(node.port) == node.name
        assert owners.name(ours) == OUTSIDE


def test_the_rule_and_the_timer_are_away_and_come_back(nodes: RegionNodes, targets: Targets) -> None:
    repair_timer.converge(nodes.folder, 600, Deadline(60))
    timer = repair_timer.process(nodes.folder, 600)
    fault = WithoutRule(targets, regions.named(targets.state, "regions"), 5)
    fault.prepare()
    fault.begin()
    try:
        assert toolkit.no_region_decides()
        assert not timer.running()
    finally:
        WithoutRule(targets, list(fault.servers), 5).end()
    assert not toolkit.no_region_decides()
    assert timer.running()
    assert toolkit.every_region_is_told()
