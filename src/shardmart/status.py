"""`shardmart status`: sets, members, state, lag, uptime, chunks and documents per shard and collection; the shop."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shardmart import platforms
from shardmart.cluster.observe import shop
from shardmart.cluster.observe.facts import gather
from shardmart.cluster.observe.health import DOWN, READY
from shardmart.cluster.protocol.connection import Credentials, Tls
from shardmart.command import run_app
from shardmart.platforms.platform import Platform, PlatformError, last_line
from shardmart.platforms.state import State, StateError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
WIDTH_OF_A_PIPE = 160
"""Nobody resizes a log: rich's 80 columns would cut the table of a cluster with many shards."""
THERE_SECONDS = 60
STATE_COLOURS = {"PRIMARY": "bold green", "SECONDARY": "green", "ROUTER": "green", "DOWN": "bold red"}


@app.command()
def status(
    state: Annotated[Path | None, typer.Option(help="State folder (default: $SHARDMART_STATE or .shardmart).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
    watch: Annotated[float | None, typer.Option(help="Show it again every so many seconds.", min=0.5)] = None,
) -> None:
    """Show sets, members, state, lag, uptime, and chunks and documents per shard and collection."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_A_PIPE
    folder = State.find(state)
    if watch is None:
        facts = read(folder)
        if as_json:
            console.print_json(json.dumps(facts, default=str))
        else:
            console.print(render(facts))
        raise typer.Exit(1 if facts["problems"] else 0)
    if as_json or not console.is_terminal:
        while True:
            print(json.dumps(read(folder), default=str), flush=True)
            time.sleep(watch)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(read(folder)), refresh=True)
            time.sleep(watch)


def read(state: State) -> dict[str, Any]:
    """The facts of the cluster in this state folder; StateError when there is none.

    Where its servers cannot be connected to from here, the same command gathers them beside the servers: then times are
    text.
    """
    platform = platforms.of(state)
    if not platform.direct:
        return _read_there(platform)
    tls = Tls.trusting(state.authority)
    monitor = Credentials("monitor", state.folder / "secrets" / "monitor.password", tls=tls)
    facts = gather(platform.cluster, router=monitor, members=Credentials(keyfile=state.keyfile, tls=tls))
    if platform.cluster.shop:
        authority = None
        try:
            authority = state.cache_authority
        except StateError as error:  # the shop's release is not there yet
            facts["problems"].append(str(error))
        facts["shop"] = shop.gather(platform.cluster.shop, authority)
        facts["problems"] += facts["shop"]["problems"]
    return facts


def _read_there(platform: Platform) -> dict[str, Any]:
    done = platform.run(["shardmart", "status", "--json"], timeout_s=THERE_SECONDS)
    try:
        facts: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise PlatformError(f"the toolbox cannot tell: {last_line(done.stderr) or 'no output'}") from None
    return facts


def render(facts: dict[str, Any]) -> RenderableType:
    """The facts as tables."""
    parts: list[RenderableType] = [_members(facts)]
    if facts["sharding"]:
        parts.append(_collections(facts["sharding"]))
    if facts.get("shop"):
        parts.append(_shop(facts["shop"]))
    if facts["problems"]:
        parts += [Text(f"✗ {problem}", style="red") for problem in facts["problems"]]
    else:
        parts.append(Text("✓ every member is healthy, every shard is present, the balancer is on", style="green"))
    return Group(*parts)


def _members(facts: dict[str, Any]) -> Table:
    table = Table(
        title=f"Cluster {facts['name']}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    pods = "pod" in facts["sets"][0]["members"][0]
    for column in ("Set", "Member", "Pod" if pods else "Address", "State", "Version"):
        table.add_column(column, no_wrap=True)
    for column in ("Lag", "Uptime"):
        table.add_column(column, justify="right")
    for replica_set in facts["sets"]:
        _add_rows(table, replica_set["name"], replica_set["members"])
    _add_rows(table, "routers", facts["routers"])
    return table


def _add_rows(table: Table, group: str, servers: list[dict[str, Any]]) -> None:
    for position, server in enumerate(servers):
        state = server.get("state", "DOWN")
        table.add_row(
            group if position == 0 else "",
            server["name"],
            server.get("pod") or server["address"],
            Text(state, style=STATE_COLOURS.get(state, "yellow")),
            server.get("version", "-"),
            f"{server['lag_seconds']:.0f} s" if "lag_seconds" in server else "-",
            _duration(server.get("uptime_seconds")),
        )


def _collections(sharding: dict[str, Any]) -> Table:
    table = Table(
        title="Sharded collections", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("Collection", no_wrap=True)
    table.add_column("Shard key")
    for shard in sharding["shards"]:
        zones = f"\n{', '.join(shard['zones'])}" if shard["zones"] else ""
        table.add_column(f"{shard['name']}{' (draining)' if shard['draining'] else ''}{zones}", justify="right")
    table.add_column("Documents", justify="right")
    for collection in sharding["collections"]:
        chunks, documents = collection["chunks"], collection["documents"]
        cells = [f"{documents[s['name']]:,}\n{_counted(chunks[s['name']], 'chunk')}" for s in sharding["shards"]]
        key = ", ".join(f"{field}: {way}" for field, way in collection["key"].items())
        table.add_row(collection["namespace"], f"{{{key}}}", *cells, f"{sum(documents.values()):,}")
    return table


def _shop(facts: dict[str, Any]) -> Table:
    table = Table(title="Shop", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("Service", "Callers find it at", "Instance", "Address", "State"):
        table.add_column(column, no_wrap=True)
    rows = [(s["name"], s["url"], one) for s in facts["services"] for one in s["instances"]]
    rows += [("cache", "", one) for one in ([facts["cache"]] if facts["cache"] else facts["cache_nodes"])]
    rows += [("mail", "", facts["mail"])] if facts["mail"] else []
    rows += [("store", "", one) for one in facts["postgres_nodes"]]
    before = ""
    for service, url, one in rows:
        first, before = service != before, service
        role = f" {one['role']}" if one.get("role") else ""
        lag = f", {one['lag_bytes']:,} bytes behind" if one.get("lag_bytes") else ""
        colour = {READY: "green", DOWN: "bold red"}.get(one["state"], "yellow")
        state = Text(f"{one['state']}{role}{lag}", style=colour)
        address = one["address"] if url != f"http://{one['address']}" else ""  # one place is not said twice
        table.add_row(service if first else "", url if first else "", one["name"], address, state)
    return table


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run_app(app, "status", arguments)
