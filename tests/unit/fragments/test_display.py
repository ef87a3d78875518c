"""Claims of what people see of the nodes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from shardmart.fragments import configuration, display
from shardmart.fragments.peers import status
from tests.support.clusters import free_ports


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1:5501", "127.0.0.1:5501"),
        ("shop-fragments-apj.shop.svc.cluster.local:5432", "shop-fragments-apj:5432"),
        ("::1:5501", "::1:5501"),
        ("localhost:5501", "localhost:5501"),
    ],
)
def test_an_address_is_shown_without_the_domain_that_all_share(address: str, shown: str) -> None:
    assert display.short(address) == shown


def test_nodes_that_do_not_run_are_shown_as_down(tmp_path: Path) -> None:
    nodes = [
        {"name": name, "host": "127.0.0.1", "port": port}
        for name, port in zip(("APJ", "EMEA", "LATAM"), free_ports(3), strict=True)
    ]
    (tmp_path / "fragments.json").write_text(json.dumps({"version": 1, "nodes": nodes}))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "fragments-admin.password").write_text("unused")
    shown = io.StringIO()
    facts = status.status(configuration.find(tmp_path / "fragments.json"))
    display.status(facts, Console(file=shown, width=140))
    lines = [line.split() for line in shown.getvalue().splitlines()]
    assert [(line[0], line[2]) for line in lines if "DOWN" in line] == [(n, "DOWN") for n in ("APJ", "EMEA", "LATAM")]
    assert [line[1] for line in lines if line[:1] == ["\N{BALLOT X}"]] == ["APJ", "EMEA", "LATAM"]
