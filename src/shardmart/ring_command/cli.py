"""`shardmart ring`: play the demonstrations, and look after a ring that runs.

A ring that runs is named by `--ring NAME` (its settings are in the state folder, where `make ring` wrote them) or by
`--settings FILE`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from shardmart.command import run_app
from shardmart.errors import FAILED, BadUseError
from shardmart.platforms import keyfile as as_system
from shardmart.platforms.state import State
from shardmart.ring import RingClient, Settings, declared, moves
from shardmart.ring import settings as settings_file
from shardmart.ring.moves import Mover
from shardmart.ring.node.nodes import Nodes

from . import checks, demonstrations
from .play import Json, add_to, progress

app = typer.Typer(
    help="A consistent-hash ring of standalone servers (docs/ring.md).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
add_to(app)
Answer = TypeVar("Answer")

RingName = Annotated[
    str | None, typer.Option("--ring", help="Name of the ring in the topology.  [default: the only one]")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="File with the settings of a ring (JSON).")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing: print what would move.")]
PlanAsJson = Annotated[
    bool, typer.Option("--json", help="With --check: the plan as JSON, each range by its first and last hash.")
]
StateFolder = Annotated[
    Path | None, typer.Option("--state", help="State folder.  [default: $SHARDMART_STATE or .shardmart]")
]


@app.command()
def create(
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
    copies: Annotated[int, typer.Option(min=1, help="On how many nodes a key is kept.")] = 2,
    virtual_nodes: Annotated[int, typer.Option(min=1, help="Points of a node of weight 1.")] = 1024,
) -> None:
    """Make a ring of the nodes that its settings name; nothing changes when it is there."""
    chosen = _settings(ring, settings, state)

    async def make() -> bool:
        nodes = Nodes(chosen)
        try:
            weights = dict.fromkeys(chosen.nodes, 1)
            return await moves.create(nodes, weights, copies=copies, virtual_nodes=virtual_nodes)
        finally:
            await nodes.close()

    print(f"ring {chosen.name} {'made' if asyncio.run(make()) else 'is there'}: {', '.join(chosen.nodes)}")


@app.command()
def converge(
    node: Annotated[list[str], typer.Option(help="NAME or NAME=WEIGHT of a node there is to be; once for each.")],
    settings: SettingsFile = None,
    ring: RingName = None,
    state: StateFolder = None,
    copies: Annotated[int, typer.Option(min=1, help="On how many nodes a key is kept.")] = 2,
    virtual_nodes: Annotated[int, typer.Option(min=1, help="Points of a node of weight 1.")] = 1024,
    keyfile: Annotated[
        Path | None, typer.Option(help="Keyfile of the servers: make the user of the settings on each of them first.")
    ] = None,
    leave_only: Annotated[
        bool, typer.Option("--leave-only", help="Only have nodes leave that are not named; none joins, none is made.")
    ] = False,
    wait_seconds: Annotated[float, typer.Option(min=1, help="How long to wait for servers, seconds.")] = 300,
) -> None:
    """Have the ring be as declared, again and again with the same result: made, or its nodes changed."""
    chosen = _settings(ring, settings, state)
    weights = checks.weights_of(node)
    if unknown := [name for name in weights if name not in chosen.nodes and not leave_only]:
        raise BadUseError(f"the settings have no node {unknown[0]!r}: add its connection string")
    changes = []
    if keyfile:
        system = as_system.read(keyfile)
        for name, uri in _servers(chosen):
            if as_system.have_user(name, uri, system, chosen.database, wait_seconds):
                changes.append(f"make the user of {name}")
    wanted = declared.Declared(weights, copies, virtual_nodes)
    have = checks.leave if leave_only else declared.converge
    changes += asyncio.run(have(chosen, wanted, wait_seconds))
    print("\n".join(changes) or f"ring {chosen.name} is as declared")


def _servers(settings: Settings) -> list[tuple[str, str]]:
    return [("the store", settings.store), *settings.nodes.items()]


@app.command("take-certificates")
def take_certificates(
    keyfile: Annotated[Path, typer.Option(help="Keyfile of the servers.")],
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
    wait_seconds: Annotated[float, typer.Option(min=1, help="How long to wait for a server, seconds.")] = 60,
) -> None:
    """Have every server take a renewed certificate, without a restart; nothing where the ring speaks no TLS."""
    system, servers = as_system.read(keyfile), _servers(_settings(ring, settings, state))
    taken = [name for name, uri in servers if as_system.take_certificate(name, uri, system, wait_seconds)]
    print(f"certificates taken: {', '.join(taken) or 'none, the ring speaks no TLS'}")


@app.command()
def status(
    ring: RingName = None, settings: SettingsFile = None, state: StateFolder = None, as_json: Json = False
) -> None:
    """Show nodes, records, tombstones and hints; exit 1 when a node is away, hints wait or nodes change."""
    found = _with(_settings(ring, settings, state), _status)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        table = Table("Node", "Share", "Records", "Tombstones", "Hints for it", Column("State", overflow="fold"))
        for node in found["nodes"]:
            table.add_row(
                node["name"],
                f"{100 * node['share']:.1f} %",
                "" if node["records"] is None else f"{node['records']:,}",
                "" if node["tombstones"] is None else f"{node['tombstones']:,}",
                f"{node['hints']:,}",
                node["away"] or "serves",
            )
        console = Console()
        console.print(table)
        console.print(
            f"ring {found['name']}, epoch {found['epoch']}, {found['copies']} copies, {found['virtual_nodes']} virtual "
            f"nodes; {'nodes change: ' + found['move'] if found['move'] else 'no change of nodes under way'}",
            highlight=False,
        )
    raise typer.Exit(0 if found["well"] else 1)


@app.command()
def verify(ring: RingName = None, settings: SettingsFile = None, state: StateFolder = None) -> None:
    """Write, read and delete a key of every node, and ask whether each serves; exit 1 when something is not well."""
    raise typer.Exit(0 if _with(_settings(ring, settings, state), checks.verify) else 1)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The node that joins; its connection string is in the settings.")],
    weight: Annotated[int, typer.Option(min=1, help="How much it takes, beside nodes of weight 1.")] = 1,
    check: Check = False,
    as_json: PlanAsJson = False,
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
) -> None:
    """Have a node join, or give one another weight, while clients read and write."""
    _move(_settings(ring, settings, state), lambda weights: {**weights, name: weight}, check=check, as_json=as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The node that leaves.")],
    dead: Annotated[
        bool, typer.Option("--dead", help="It does not answer any more: use the copies of others.")
    ] = False,
    check: Check = False,
    as_json: PlanAsJson = False,
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
) -> None:
    """Have a node leave, while clients read and write."""

    def without(weights: dict[str, int]) -> dict[str, int]:
        if name not in weights:
            raise BadUseError(f"the ring has no node {name!r}, it has {', '.join(weights)}")
        return {other: weight for other, weight in weights.items() if other != name}

    _move(_settings(ring, settings, state), without, check=check, as_json=as_json, dead=name if dead else None)


@app.command()
def resume(
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
    dead: Annotated[
        str | None,
        typer.Option(help="Go on without this node, which is lost for good; what cannot be finished is taken back."),
    ] = None,
) -> None:
    """Go on with a change of nodes whose mover ended early."""
    _move(_settings(ring, settings, state), None, dead=dead)


@app.command()
def tend(
    ring: RingName = None,
    settings: SettingsFile = None,
    state: StateFolder = None,
    trust: Annotated[
        str | None, typer.Option(help="Let this node serve without a comparison; right only if its folder is whole.")
    ] = None,
) -> None:
    """Once: compare nodes that returned and let them serve, deliver hints, end tombstones that may end.

    Exit code 1 when something has to wait: a node is away, or hints for one.
    """

    async def work(client: RingClient) -> bool:
        if trust:
            if trust not in client.view.nodes:
                raise BadUseError(f"the ring has no node {trust!r}, it has {', '.join(client.view.nodes)}")
            await client.upkeep.bring_back(trust, trust=True)
        await client.upkeep.tend()
        ended = await client.upkeep.reap()
        for name, compared in client.upkeep.compared.items():
            print(f"{name}: {compared.differing:,} records differed, {compared.bytes:,} bytes sent")
        away, hints = client.nodes.away(), sum((await client.upkeep.hints()).values())
        for name, reason in away.items():
            print(f"{name} is away: {reason}")
        print(f"{hints:,} hints wait; {ended:,} tombstones ended")
        return not away and not hints

    if not _with(_settings(ring, settings, state), work):
        raise typer.Exit(FAILED)


def main(arguments: list[str]) -> int:
    """The command's entry point."""
    return run_app(app, "ring", arguments)


async def _status(client: RingClient) -> dict[str, Any]:
    view, nodes = client.view, client.nodes
    shares, hints, away = view.ring.shares(), await client.upkeep.hints(), nodes.away()

    async def counts(name: str) -> tuple[int | None, int | None]:
        if name in away:
            return None, None
        records = nodes[name].records
        return (
            await records.count_documents(demonstrations.VALUES),
            await records.count_documents({"t": {"$exists": True}}),
        )

    rows = []
    for name in view.nodes:
        records, tombstones = await counts(name)
        rows.append(
            {
                "name": name,
                "share": shares.get(name, 0.0),
                "records": records,
                "tombstones": tombstones,
                "hints": hints.get(name, 0),
                "away": away.get(name),
            }
        )
    move = view.move
    return {
        "name": nodes.settings.name,
        "epoch": view.epoch,
        "copies": view.ring.copies,
        "virtual_nodes": view.ring.virtual_nodes,
        "nodes": rows,
        "move": f"{', '.join(move.before)} to {', '.join(move.after)}, phase {move.phase}" if move else None,
        "well": not (away or hints or move),
    }


def _move(
    settings: Settings,
    change: Callable[[dict[str, int]], dict[str, int]] | None,
    *,
    check: bool = False,
    as_json: bool = False,
    dead: str | None = None,
) -> None:
    if as_json and not check:
        raise BadUseError("--json prints the plan: give --check with it")
    with progress() as output:

        async def work(client: RingClient) -> None:
            mover = Mover(client.nodes, demonstrations.progress_of(output))
            if change is not None:
                after = change(dict(client.view.ring.weights))
                if check:
                    _show_plan(await mover.plan(after, dead=dead), as_json=as_json)
                    return
                await mover.begin(after, dead=dead)
            elif dead is not None:
                await mover.give_up(dead)
            elif client.view.move is None:
                print("no change of nodes is under way")
                return
            done = await mover.run()
            print(f"{done.copied:,} copies moved, {done.mended:,} mended, {done.removed:,} old copies removed")
            print(f"the ring has {', '.join(client.view.ring.weights)}")
            if dead in client.view.ring.weights:
                print(f"{dead} is still one of them, and nobody asks it: `shardmart ring remove {dead} --dead`")

        _with(settings, work, upkeep=True)


def _show_plan(plan: list[moves.Transfer], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([{**asdict(one), "arcs": [[arc.first, arc.last] for arc in one.arcs]} for one in plan]))
        return
    table = Table("From", "To", "Ranges", "Records", "Bytes")
    for one in plan:
        table.add_row(one.source, one.target, f"{len(one.arcs):,}", f"{one.records:,}", f"{one.bytes:,}")
    Console().print(table)
    print(f"{sum(one.records for one in plan):,} copies would move; nothing was changed")


def _settings(ring: str | None, file: Path | None, state: Path | None) -> Settings:
    if file:
        return settings_file.read(file)
    return settings_file.read(settings_file.find(State.find(state).folder / "rings", ring))


def _with(settings: Settings, work: Callable[[RingClient], Awaitable[Answer]], *, upkeep: bool = False) -> Answer:
    async def inside() -> Answer:
        async with RingClient(settings, upkeep=upkeep) as client:
            return await work(client)

    return asyncio.run(inside())
