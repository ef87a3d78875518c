"""Run the project's playbooks as a user does, on a state folder and topology of a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shardmart.platforms.state import State
from tests.support.clusters import CACHE, ROOT, EmbeddedCluster, free_ports

RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """The outcome of a playbook: exit code, output, and changed tasks per host."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks per host, as the recap says."""
        return {host: int(changed) for host, _, changed, _, _ in RECAP.findall(self.output)}


class Site:
    """A state folder and a topology file on free ports, and ways to run playbooks on them."""

    def __init__(self, folder: Path, *, config: int = 1, shards: int = 2, members: int = 1, routers: int = 1) -> None:
        self.state = folder / "state"
        self.topology = folder / "topology.yml"
        ports = free_ports(config + shards * members + routers)
        self.document: dict[str, Any] = {
            "name": "playbooks",
            "election": {"timeout_ms": 2000, "heartbeat_ms": 500},
            "zones": ["APJ", "EMEA", "LATAM"],
            "config_servers": {
                "name": "configReplSet", "member_name": "configsvr{n}", "members": config, "port": ports[0],
            },
            "shards": [
                {
                    "name": f"shard{i + 1}ReplSet",
                    "members": members,
                    "port": ports[config + i * members],
                    "zones": ["APJ", "EMEA"] if i == 0 else ["EMEA", "LATAM"],
                }
                for i in range(shards)
            ],
            "routers": {"count": routers, "port": ports[config + shards * members]},
        }  # fmt: skip
        self.write()

    def write(self, **changes: Any) -> None:
        """Write the topology file, with top-level keys replaced."""
        self.document |= changes
        self.topology.write_text(yaml.safe_dump(self.document, sort_keys=False))

    def environment(self) -> Mapping[str, str]:
        return os.environ | {
            "SHARDMART_STATE": str(self.state),
            "SHARDMART_BINARIES": str(CACHE),
            "ANSIBLE_NOCOLOR": "1",
        }

    def command(self, playbook: str, *arguments: str) -> list[str]:
        ansible_playbook = str(Path(sys.executable).with_name("ansible-playbook"))
        return [ansible_playbook, "-i", "inventories/embedded", playbook, "-e", f"topology={self.topology}", *arguments]

    def play(self, playbook: str, *arguments: str) -> Played:
        """Run a playbook to its end."""
        done = subprocess.run(
            self.command(playbook, *arguments),
            cwd=ROOT, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return Played(done.returncode, done.stdout)

    def shardmart(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the `shardmart` command on this state folder to its end."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("shardmart")), *arguments],
            env=self.environment(), capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def must_converge_from_nothing(self) -> Played:
        """site.yml: check mode changes nothing, the first run makes everything, a second changes nothing; the first."""
        planned = self.play("site.yml", "--check")
        assert planned.code == 0, planned.output
        assert not self.state.exists(), "check mode on an empty machine changes nothing"
        first = self.play("site.yml")
        assert first.code == 0, first.output
        second = self.play("site.yml")
        assert second.code == 0, second.output
        assert set(second.changed.values()) == {0}, second.output
        return first

    def cluster(self) -> EmbeddedCluster:
        """The cluster the playbooks made, for looking at its servers."""
        return EmbeddedCluster(self.state, State(self.state).description())
