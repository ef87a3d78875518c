"""The status table and the command's exit codes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shardmart import cli, status


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "name": "demo",
        "sets": [
            {
                "name": "shard1ReplSet",
                "members": [
                    {
                        "name": "shard1-1",
                        "address": "127.0.0.1:27201",
                        "state": "PRIMARY",
                        "version": "6.0.5",
                        "lag_seconds": 0.0,
                        "uptime_seconds": 90061.0,
                    },
                    {"name": "shard1-2", "address": "127.0.0.1:27202", "state": "DOWN", "error": "refused"},
                ],
            }
        ],
        "routers": [],
        "sharding": {
            "shards": [{"name": "shard1ReplSet", "zones": ["APJ"], "draining": False}],
            "balancer": True,
            "collections": [
                {
                    "namespace": "ecommerce.orders",
                    "key": {"region": 1, "user_id": "hashed"},
                    "chunks": {"shard1ReplSet": 3},
                    "documents": {"shard1ReplSet": 1234},
                }
            ],
        },
        "problems": [],
    } | changes


def rendered(document: dict[str, Any]) -> str:
    output = io.StringIO()
    Console(file=output, width=80).print(status.render(document))
    return output.getvalue()


def test_table_fits_eighty_columns_and_says_it_all() -> None:
    text = rendered(facts())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for expected in ("127.0.0.1:27201", "PRIMARY", "DOWN", "1d 1h", "1,234", "3 chunks", "APJ", "✓"):
        assert expected in text


def test_every_problem_is_a_line() -> None:
    text = rendered(facts(problems=["shard1ReplSet has no primary", "the balancer is off"], sharding=None))
    assert "✗ shard1ReplSet has no primary" in text
    assert "✗ the balancer is off" in text
    assert "✓" not in text


def test_no_cluster_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--state", str(tmp_path)]) == 3
    assert "run `make up`" in capsys.readouterr().err


def test_wrong_option_is_exit_code_2() -> None:
    assert status.main(["--nonsense"]) == 2


def test_unknown_command_is_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["shardmart", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "no command 'nonsense'" in capsys.readouterr().err


def test_pods_are_named_without_their_domain() -> None:
    document = facts()
    for member in document["sets"][0]["members"]:
        member["address"] = f"shop-{member['name']}.shop-shard1.shop.svc.cluster.local:27017"
        member["pod"] = f"shop-{member['name']}"
    text = rendered(document)
    assert "shop-shard1-1 " in text
    assert "svc" not in text
    assert "Pod" in text


def test_a_pipe_gets_every_column_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    document = facts()
    names = [f"shard{n}ReplSet" for n in range(1, 6)]
    sharding = document["sharding"]
    sharding["shards"] = [{"name": name, "zones": ["APJ"], "draining": False} for name in names]
    sharding["collections"][0] |= {"chunks": dict.fromkeys(names, 3), "documents": dict.fromkeys(names, 1234)}
    monkeypatch.setattr(status, "read", lambda _: document)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert status.main(["--state", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = next(line for line in lines if "Shard key" in line)
    above = lines[lines.index(heading) - 1]
    assert above.split() == names
    assert heading.split() == ["Collection", "Shard", "key", *["APJ"] * 5, "Documents"]
    assert any("{region: 1, user_id: hashed}" in line for line in lines)
