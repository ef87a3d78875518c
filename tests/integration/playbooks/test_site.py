"""`site.yml` on the embedded platform: converges, changes nothing twice, survives being killed, adds a shard."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardmart.cluster.converge import users
from shardmart.cluster.protocol.connection import Credentials, connect
from tests.support.clusters import ROOT, free_ports, known_access
from tests.support.plays import Site

pytestmark = pytest.mark.long


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    if made.state.exists():
        made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def files_under(folder: Path) -> dict[str, float]:
    return {str(file): file.stat().st_mtime for file in folder.rglob("*")} if folder.exists() else {}


def test_site_converges_and_a_second_run_changes_nothing(site: Site) -> None:
    planned = site.play("site.yml", "--check")
    assert planned.code == 0, planned.output
    assert files_under(site.state) == {}, "check mode on an empty machine changes nothing"
    assert sum(planned.changed.values()) > 0, "and says what it would do"

    first = site.play("site.yml")
    assert first.code == 0, first.output
    assert site.state.stat().st_mode & 0o777 == 0o700

    second = site.play("site.yml")
    assert second.code == 0, second.output
    assert set(second.changed.values()) == {0}, second.output

    checked = site.play("site.yml", "--check", "--diff")
    assert checked.code == 0, checked.output
    assert set(checked.changed.values()) == {0}, checked.output

    cluster = site.cluster()
    with cluster.client("loader") as client:
        counts = {name: client.ecommerce[name].count_documents({}) for name in ("users", "products", "orders")}
    assert counts == {"users": 10, "products": 20, "orders": 30}

    # TLS cannot be switched on under servers that run: refused before anything is made.
    site.write(tls={"mode": "requireTLS"})
    before = files_under(site.state / "config") | files_under(site.state / "secrets")
    refused = site.play("playbooks/provision.yml")
    assert refused.code != 0
    assert "tls.mode: " in refused.output
    assert "runs without TLS" in refused.output
    assert not (site.state / "tls").exists()
    assert files_under(site.state / "config") | files_under(site.state / "secrets") == before
    site.write(tls={"mode": "disabled"})

    # One more shard is one more entry and the same command again.
    shard3 = {
        "name": "shard3ReplSet",
        "members": 1,
        "port": free_ports(1)[0],
        "zones": ["EMEA"],
    }
    site.write(shards=[*site.document["shards"], shard3])
    grown = site.play("site.yml")
    assert grown.code == 0, grown.output
    with site.cluster().client("monitor") as client:
        listed = {shard["_id"] for shard in client.admin.command("listShards")["shards"]}
        assert listed == {"shard1ReplSet", "shard2ReplSet", "shard3ReplSet"}

    # down keeps the data, up brings it back.
    assert site.play("playbooks/destroy.yml").code == 0
    assert not [p.name for p in site.cluster().processes.values() if p.running()]
    assert [shard for shard in ("shard1-1", "shard2-1", "shard3-1") if missed_the_config_servers(site, shard)] == []
    again = site.play("site.yml")
    assert again.code == 0, again.output
    with site.cluster().client("loader") as client:
        assert client.ecommerce.orders.count_documents({}) == 30

    destroyed = site.play("playbooks/destroy.yml", "-e", "destroy_data=true")
    assert (
        f"Removing the data, configuration, logs and secrets of cluster playbooks in {site.state}" in destroyed.output
    )
    assert not (site.state / "data").exists()


def missed_the_config_servers(site: Site, shard: str) -> bool:
    """Whether a shard's member, told to end, found that the config servers had ended before it (and waited 15 s)."""
    return '"id":22667,' in (site.state / "logs" / f"{shard}.log").read_text(errors="replace")


def kill_play(site: Site, after_seconds: float) -> None:
    """Start the bootstrap and kill -9 every process of the play, not the servers, after so many seconds."""
    play = subprocess.Popen(
        site.command("playbooks/bootstrap.yml"),
        cwd=ROOT, env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # The one sleep that is the point: a moment nobody chose.
    time.sleep(after_seconds)
    root = psutil.Process(play.pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            command = process.cmdline()
            if "mongod" not in Path(command[0]).name and "shardmart.router" not in command:
                process.kill()
        except (psutil.Error, IndexError):
            continue
    play.wait()


def provision_anew(site: Site) -> None:
    """Empty servers again, as provision.yml leaves them, without the seconds Ansible takes."""
    cluster = site.cluster()
    cluster.destroy()
    shutil.rmtree(site.state)
    cluster.write_secrets()
    cluster.start()


def identities(site: Site) -> dict[str, str]:
    """replicaSetId of each set that has one: a second initiation would change it."""
    cluster = site.cluster()
    found = {}
    for replica_set in cluster.description.replica_sets:
        with connect(replica_set.members[0].address, cluster.members_credentials) as client:
            try:
                configuration = client.admin.command("replSetGetConfig")["config"]
            except Exception:
                continue
            found[replica_set.name] = str(configuration["settings"]["replicaSetId"])
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.full)])
def test_bootstrap_killed_at_random_moments_is_finished_by_the_next_run(site: Site, kills: int) -> None:
    seed = int(os.environ.get("SHARDMART_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SHARDMART_KILL_SEED={seed} repeats this run")
    moments = random.Random(seed)
    assert site.play("playbooks/provision.yml").code == 0
    begun = time.monotonic()
    assert site.play("playbooks/bootstrap.yml").code == 0
    whole = time.monotonic() - begun
    for kill in range(kills):
        provision_anew(site)
        kill_play(site, moments.uniform(whole * kill / kills, whole * (kill + 1) / kills))
        before = identities(site)
        finished = site.play("playbooks/bootstrap.yml")
        assert finished.code == 0, finished.output
        after = identities(site)
        assert {name: after[name] for name in before} == before, "no set was initiated twice"
        assert set(after) == {"configReplSet", "shard1ReplSet", "shard2ReplSet"}
        cluster = site.cluster()
        for user in known_access().users:
            login = Credentials(user.name, site.state / "secrets" / user.password)
            assert users.accepts(login, cluster.router), f"{user} is lost after kill {kill}"
        if kill % 3 == 0:
            assert set(site.play("playbooks/bootstrap.yml").changed.values()) == {0}


def test_wrong_topology_stops_before_anything_happens(site: Site) -> None:
    site.write(cash_mb=512)
    played = site.play("site.yml")
    assert played.code != 0
    assert f"{site.topology}: cash_mb: unknown key" in played.output
    assert not site.state.exists()
