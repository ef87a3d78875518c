"""`shardmart fragments`: have the schema and its peers, fill, look, repair, recover, and the shop itself on either
store.

Standard output holds the result (a table, lines, or one JSON document with --json), standard error everything else.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shardmart.command import run_app
from shardmart.errors import FAILED, INTERRUPTED, BadUseError
from shardmart.loader.generation.dataset import Counts

from . import configuration as configurations
from . import display
from .peers import repair as repairs
from .peers import status as statuses
from .peers import subscriptions, timer
from .relational import coordinator, plans, schema, seeding, verification
from .rows import Shop
from .shop_commands import File, On, Which, crud

app = typer.Typer(
    help="The shop in fragments and regions, on PostgreSQL and on MongoDB (docs/fragments.md).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(crud, name="crud")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing: say what would be changed.")]


@app.command()
def apply(
    configuration: File = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds that nodes may take to answer, and peers to hear of each other.")
    ] = 60,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Have roles, schema, fragments and peers on every node.

    What is there already is left as it is.
    """
    stores = configurations.find(configuration)
    if not check:
        statuses.wait_until_answering(stores, wait)
    changes = [line for node in stores.nodes for line in schema.converge(stores, node, check=check)]
    if not (check and changes):
        changes += subscriptions.converge(stores, check=check)
    if not check:
        statuses.wait_until_streaming(stores, wait)
    _done({"changes": changes}, changes, as_json=as_json)


@app.command()
def seed(
    configuration: File = None,
    seed: Annotated[int, typer.Option(min=0, help="Which data set: that of `shardmart load --seed`.")] = 1,
    users: Annotated[int, typer.Option(min=0, help="Customers.")] = 10,
    orders_per_user: Annotated[int, typer.Option(min=0, help="Orders of each customer.")] = 3,
    products: Annotated[int, typer.Option(min=1, help="Articles in the catalogue.")] = 20,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """insert_random_data: one data set in both stores.

    It is the loader's; each row is written once, into the fragment that it belongs to.
    """
    stores = configurations.find(configuration)
    regions = tuple(node.name for node in stores.nodes)
    shop = Shop(seed, Counts(users, orders_per_user, products), regions, catch_all=stores.catch_all)
    result = seeding.insert_random_data(stores, shop, check=check, notice=_progress)
    changes = list(result.changes)
    if stores.mongodb:
        from .mongodb.seeding import insert_random_data

        changes += [f"MongoDB {line}" for line in insert_random_data(stores, shop, check=check, notice=_progress)]
    for reason in result.refused.values():
        print(f"shardmart fragments: left out: {reason}", file=sys.stderr)
    if result.left_out:
        print(
            f"shardmart fragments: {result.left_out} lines of orders were for them, and are left out", file=sys.stderr
        )
    document = {
        "changes": changes,
        "written": result.written,
        "refused": result.refused,
        "lines_left_out": result.left_out,
    }
    _done(document, changes, as_json=as_json)


@app.command()
def status(
    configuration: File = None,
    compare: Annotated[bool, typer.Option(help="Compare the rows of Customer_Region on all nodes.")] = True,
    mend: Annotated[bool, typer.Option("--repair", help="Repair first, as `repair` does.")] = False,
    as_json: Json = False,
) -> None:
    """Nodes and peers: lag, kept log, conflicts, rows that differ.

    Exit 1 when something is not well.
    """
    stores = configurations.find(configuration)
    if mend:
        done = _repaired(stores)
        for line in (*done.changes, *done.failed):
            print(f"shardmart fragments: {line}", file=sys.stderr)
    facts = statuses.status(stores, compare=compare)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        display.status(facts, Console(width=None if sys.stdout.isatty() else 140))
    raise typer.Exit(FAILED if facts["problems"] else 0)


@app.command()
def repair(
    configuration: File = None,
    node: Annotated[list[str] | None, typer.Option(help="Only between these nodes: name two or more.")] = None,
    keep_tombstones_days: Annotated[
        float, typer.Option(min=0, help="Remove tombstones that are older, once every node has them.")
    ] = repairs.KEEP_TOMBSTONES_DAYS,
    every: Annotated[
        float | None, typer.Option(min=1, help="Again and again, so many seconds apart, until SIGTERM or Ctrl-C.")
    ] = None,
    lock: Annotated[
        Path | None, typer.Option(help="With --every: a file that only one such process may hold at a time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Mend subscriptions, and make the rows of the nodes equal.

    Those that stopped are started, lost ones made anew; rows are compared.  Exit 1 where something could not be mended.
    """
    if every is not None:
        if node or as_json:
            raise BadUseError("--every repairs all nodes and prints lines: it goes with neither --node nor --json")
        _repair_every(configuration, every, lock)
        return
    done = _repaired(configurations.find(configuration), node or (), keep_tombstones_days)
    document = {
        "changes": done.changes,
        "subscriptions": done.subscriptions,
        "rows_different": done.different,
        "rows_written": done.rows,
        "tombstones_removed": done.tombstones,
        "failed": done.failed,
        "away": done.away,
    }
    for line in done.failed:
        print(f"shardmart fragments: {line}", file=sys.stderr)
    for name in done.away:
        print(f"shardmart fragments: {name} does not answer: repair again when it is back", file=sys.stderr)
    _done(document, done.changes, as_json=as_json)
    if done.away or done.failed:
        raise typer.Exit(FAILED)


def _repaired(
    stores: configurations.Configuration,
    nodes: Sequence[str] = (),
    keep_tombstones_days: float = repairs.KEEP_TOMBSTONES_DAYS,
) -> repairs.Repair:
    """Repair, and have the nodes remember it."""
    started = time.monotonic()
    done = repairs.repair(stores, nodes, keep_tombstones_days=keep_tombstones_days)
    timer.note(stores, done, timer.COMMAND, time.monotonic() - started)
    return done


def _repair_every(configuration: Path | None, every: float, lock: Path | None) -> None:
    """Repair until a signal; 130 when it was Ctrl-C."""
    stop, received = threading.Event(), [0]

    def on_signal(number: int, _: object) -> None:
        received[0] = number
        stop.set()

    with timer.alone(lock) if lock else nullcontext():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
        _progress(f"repairing every {every:g} s")
        timer.run(lambda: configurations.find(configuration), every, stop, _progress)
    if received[0] == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)


@app.command()
def recover(
    configuration: File = None,
    abandoned: Annotated[
        float, typer.Option(min=0, help="Seconds after which an undecided transaction is aborted.")
    ] = coordinator.ABANDONED_SECONDS,
    as_json: Json = False,
) -> None:
    """Finish two-phase commits whose coordinator died.

    Exit 1 while one is in doubt, or a node does not say what it holds.
    """
    done = coordinator.recover(configurations.find(configuration), abandoned_seconds=abandoned)
    document = {"changes": done.changes, "in_doubt": done.in_doubt, "away": done.away}
    _done(document, done.changes, as_json=as_json)
    for gid, why in done.in_doubt.items():
        print(f"shardmart fragments: {gid}: {why}", file=sys.stderr)
    for name in done.away:
        print(f"shardmart fragments: {name} does not answer: recover again when it is back", file=sys.stderr)
    if done.in_doubt or done.away:
        raise typer.Exit(FAILED)


@app.command()
def verify(configuration: File = None, as_json: Json = False) -> None:
    """Look up what has to hold of fragments, row by row.

    Exit 1 when something does not.
    """
    checked, wrong = verification.verify(configurations.find(configuration))
    if as_json:
        print(json.dumps({"checked": checked, "wrong": wrong}, indent=2))
    else:
        print("\n".join([*(f"checked  {line}" for line in checked), *(f"WRONG    {line}" for line in wrong)]))
    if wrong:
        raise typer.Exit(FAILED)


@app.command()
def explain(
    query: Annotated[
        str,
        typer.Argument(
            help="A SELECT; of MongoDB a find or an aggregate as JSON, such as "
            '{"find": "products", "filter": {"price_cents": 1999}}.'
        ),
    ],
    store: On = Which.postgres,
    configuration: File = None,
    node: Annotated[str | None, typer.Option(help="On which node.  [default: the first]")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run it, too: rows touched and time.")] = False,
    as_json: Json = False,
) -> None:
    """Which fragments and indexes a query touches.

    And what is sent to other nodes; of MongoDB, which shards are asked.
    """
    if store is Which.mongodb:
        _explain_mongodb(query, configuration, with_node_or_run=bool(node or run), as_json=as_json)
        return
    if not query.lstrip().lower().startswith("select"):
        raise BadUseError("explain takes a SELECT")
    stores = configurations.find(configuration)
    reading = plans.explain(stores, stores.node(node) if node else stores.nodes[0], query, run=run)
    document = {
        "tables": sorted(reading.tables),
        "indexes": sorted(reading.indexes),
        "remote_sql": reading.remote,
        "rows_touched": reading.rows if run else None,
        "milliseconds": reading.milliseconds,
    }
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(f"{key}: {_plain(value)}" for key, value in document.items() if value not in (None, [])))


def _explain_mongodb(query: str, configuration: Path | None, *, with_node_or_run: bool, as_json: bool) -> None:
    from .mongodb import aggregations
    from .mongodb import connection as mongodb

    if with_node_or_run:
        raise BadUseError("--node and --run go with PostgreSQL")
    collection, question = aggregations.parse(query)
    client = mongodb.connect(configurations.find(configuration))
    with mongodb.one_line(), client:
        shards = sorted(aggregations.shards_of(mongodb.database(client), collection, question))
    print(json.dumps({"shards": shards}, indent=2) if as_json else f"shards: {', '.join(shards)}")


@app.command()
def layout(
    catch_all: Annotated[bool, typer.Option(help="With a fragment for prices outside every band.")] = False,
) -> None:
    """How the collections on MongoDB are laid out, as JSON.

    Shard keys, zones, indexes and validators.
    """
    from .mongodb.layout import collections

    print(json.dumps(collections(catch_all=catch_all), indent=2))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _done(document: Mapping[str, Any], changes: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(changes) or "nothing to do")


def _progress(line: str) -> None:
    print(f"  {datetime.now().astimezone():%H:%M:%S} {line}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run `shardmart fragments` with `arguments`; returns the exit code."""
    return run_app(app, "fragments", arguments)
