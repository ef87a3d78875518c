"""`make fragments` beside a cluster: converges, changes nothing twice, comes back after `down` with its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmart.platforms import repair_timer
from tests.support.clusters import free_ports
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home


@pytest.fixture(params=["disabled", "requireTLS"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with postgres_home("fragments"):
        made = Site(tmp_path)
        made.write(fragments={"port": free_ports(3)[0]}, tls={"mode": request.param})
        yield made
        if made.state.exists():
            for playbook in ("playbooks/fragments-destroy.yml", "playbooks/destroy.yml"):
                made.play(playbook, "-e", "destroy_data=true")


def shardmart(site: Site, *words: str) -> Any:
    """The JSON of a command on this site's fragments; its exit code is 0."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("shardmart")), "fragments", *words],
        env=os.environ | {"SHARDMART_STATE": str(site.state)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.full
def test_fragments_converge_and_a_second_run_changes_nothing(site: Site) -> None:
    for playbook in ("playbooks/provision.yml", "playbooks/bootstrap.yml"):
        cluster = site.play(playbook)
        assert cluster.code == 0, cluster.output
    planned = site.play("playbooks/fragments.yml", "--check")
    assert planned.code == 0, planned.output
    assert sum(planned.changed.values()) > 0
    assert not (site.state / "fragments.json").exists(), "check mode changes nothing"

    first = site.play("playbooks/fragments.yml")
    assert first.code == 0, first.output
    second = site.play("playbooks/fragments.yml")
    assert second.code == 0, second.output
    assert set(second.changed.values()) == {0}, second.output

    assert (site.state / "fragments.json").stat().st_mode & 0o777 == 0o600
    secrets = sorted((site.state / "secrets").glob("fragments-*.password"))
    assert [file.name for file in secrets] == [
        "fragments-admin.password", "fragments-app.password", "fragments-mongodb.password", "fragments-peer.password",
    ]  # fmt: skip
    for file in secrets:
        assert file.read_text().strip() not in first.output
    facts = shardmart(site, "status", "--json")
    assert facts["rows_different"] == 0
    assert facts["problems"] == []
    speaks = "tls" in json.loads((site.state / "fragments.json").read_text())
    assert speaks == (site.document["tls"]["mode"] == "requireTLS")
    assert sum(node["customers"] for node in facts["nodes"]) == 3 * 10
    assert shardmart(site, "verify", "--json")["wrong"] == []
    low, high = "10.00", "501.00"
    on_both = [shardmart(site, "crud", "products-between", low, high, f"--store={s}") for s in ("postgres", "mongodb")]
    assert on_both[0] == on_both[1]
    assert on_both[0]

    down = site.play("playbooks/fragments-destroy.yml")
    assert (down.code, down.changed["controller"]) == (0, 2), "the timer of the repair, and the servers"
    assert not repair_timer.process(site.state, 60).running()
    back = site.play("playbooks/fragments.yml")
    assert (back.code, back.changed["controller"]) == (0, 2), back.output
    assert repair_timer.process(site.state, 60).running()
    assert shardmart(site, "status", "--json")["problems"] == []

    # `make down` stops them with everything else; their data stays.
    assert site.play("playbooks/destroy.yml").code == 0
    nothing_runs = site.play("playbooks/fragments-destroy.yml")
    assert (nothing_runs.code, nothing_runs.changed["controller"]) == (0, 0), nothing_runs.output
    assert (site.state / "fragments.json").exists()
