"""The status for people: nodes, peers, and one line for each thing that is wrong."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

NUMBERS = ("customers", "tombstones", "conflicts", "in_doubt")
"""What is known of a node that answers."""


def status(facts: dict[str, Any], console: Console) -> None:
    """Print the facts of `peers.status.status`."""
    nodes = _table(
        "Region nodes", "Node", "Address", "PostgreSQL", ">Customers", ">Tombstones", ">Conflicts", ">In doubt"
    )
    sums = facts.get("checksums", {})
    regions = sorted({region for each in sums.values() for region in each})
    for region in regions:
        nodes.add_column(f"Customer_Region {region}", justify="right")
    for node in facts["nodes"]:
        numbers = [f"{node[key]:,}" if node["up"] else "-" for key in NUMBERS]
        version = node["version"] if node["up"] else Text("DOWN", style="bold red")
        compared = [sums.get(node["name"], {}).get(region, "-") for region in regions]
        nodes.add_row(node["name"], short(node["address"]), version, *numbers, *compared)
    peers = _table("Peers", "From", "To", "State", ">Not told yet", ">Kept for it")
    for peer in facts["peers"]:
        style = "green" if peer["state"] == "streaming" else "yellow" if peer["state"] == "away" else "bold red"
        sizes = [f"{peer[key]:,} B" if peer.get(key) is not None else "-" for key in ("lag_bytes", "kept_bytes")]
        peers.add_row(peer["from"], peer["to"], Text(peer["state"], style=style), *sizes)
    console.print(nodes)
    console.print(peers)
    for by, repair in facts["repairs"].items():
        every = f", every {repair['every_seconds']:g} s" if repair["every_seconds"] else ""
        rows = f"{repair['rows_different']:,} rows differed, {repair['rows_written']:,} written"
        console.print(f"Last repair by the {by}{every}: {repair['seconds_ago']:.0f} s ago, {rows}", highlight=False)
    for problem in facts["problems"]:
        console.print(Text(f"✗ {problem}", style="red"), soft_wrap=True)
    if not facts["problems"]:
        different = facts["rows_different"]
        said = "" if different is None else f", rows different {different}"
        console.print(Text(f"✓ every node answers, every peer is told{said}", style="green"))


def short(address: str) -> str:
    """An address without the domain that the nodes of one Kubernetes share: it would leave no room for the rest."""
    host, _, port = address.rpartition(":")
    return address if host.replace(".", "").isdigit() or ":" in host else f"{host.partition('.')[0]}:{port}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table
