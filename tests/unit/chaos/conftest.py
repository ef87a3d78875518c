"""A state folder that describes a cluster of processes, none of which runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.targets.selectors import Targets
from shardmart.platforms.state import State


def members(prefix: str, port: int) -> list[dict[str, Any]]:
    return [{"name": f"{prefix}{n}", "host": "127.0.0.1", "port": port + n} for n in (1, 2, 3)]


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Targets:
    cluster = {
        "name": "lab",
        "platform": "embedded",
        "config_servers": {"name": "configReplSet", "members": members("configsvr", 31600)},
        "shards": [
            {"name": "shard1ReplSet", "members": members("shard1-", 31610)},
            {"name": "shard2ReplSet", "members": members("shard2-", 31620)},
        ],
        "routers": [{"name": "mongos1", "host": "127.0.0.1", "port": 31699}],
    }
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    made = Targets(State(tmp_path))
    monkeypatch.setattr(made, "primary", lambda name: made.members(name)[1])
    return made
