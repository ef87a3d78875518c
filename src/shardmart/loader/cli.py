"""`shardmart load`: the command line of the loader.

Standard output holds the result (tables, or one JSON
document with --json), standard error everything else.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shardmart.command import run_app
from shardmart.declare import data_model
from shardmart.errors import INTERRUPTED, REFUSED, BadUseError, ShardmartError
from shardmart.platforms.state import resolve_uri

from .batches import Job
from .generation import identity
from .generation.dataset import Counts
from .progress import Reporter, reporter
from .result import Result
from .run import Options, Run

DONE, VERIFICATION_FAILED = 0, REFUSED

MAXIMUM_PRODUCTS = 1_000_000
MAXIMUM_BATCH = 20_000
"""An order has 260 bytes; MongoDB takes messages of 48,000,000 bytes."""


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def load(
    users: Annotated[int, typer.Option(min=0, max=identity.MAXIMUM_USERS, help="Customers.")] = 10,
    orders_per_user: Annotated[
        int, typer.Option(min=0, max=identity.MAXIMUM_ORDERS_PER_USER, help="Orders of each customer.")
    ] = 3,
    products: Annotated[int, typer.Option(min=0, max=MAXIMUM_PRODUCTS, help="Articles in the catalogue.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, max=identity.MAXIMUM_SEED, help="Which data set: same seed, same documents.")
    ] = 1,
    zipf: Annotated[
        str, typer.Option(help="Skew of the articles' popularity: 0 none, 1 as in shops, up to 3.", metavar="EXPONENT")
    ] = "1.0",
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that load.  [default: one per core, at most 4]")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MAXIMUM_BATCH, help="Documents per insert.")] = 1000,
    uri: Annotated[
        str | None,
        typer.Option(help="Connection string. It shows in the process list: prefer --uri-file or $SHARDMART_URI."),
    ] = None,
    uri_file: Annotated[Path | None, typer.Option(help="File that holds the connection string.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="State folder of the cluster.  [default: $SHARDMART_STATE or .shardmart]")
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete all users, products and orders first, whoever made them.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Add to the data set of another seed.")] = False,
    verify: Annotated[bool, typer.Option(help="Read every document back and compare it.")] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare the database with what would be loaded.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Generate everything, connect to nothing; shows the checksums.")
    ] = False,
    retry_seconds: Annotated[
        float, typer.Option(min=0, help="How long to try again while a primary or router is away.")
    ] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fill the database with users, products and orders: exactly those of a seed, and never twice.

    Whatever ends a load: the same command again finishes it.
    """
    if sum((drop, merge, check, dry_run)) > 1:
        raise BadUseError("--drop, --merge, --check and --dry-run exclude each other")
    counts = Counts(users, orders_per_user, products)
    if counts.orders and not products:
        raise BadUseError("orders need at least one product: give --products, or --orders-per-user 0")
    exponent, model = _exponent(zipf), data_model.load()
    job = Job(
        uri="" if dry_run else resolve_uri(uri, uri_file, user="loader", state=state),
        database=model.database,
        seed=seed,
        counts=counts,
        zipf=exponent,
        regions=model.regions,
        retry_seconds=retry_seconds,
    )
    options = Options(job, workers or min(4, os.cpu_count() or 1), batch, drop=drop, merge=merge, verify=verify)
    errors = Console(stderr=True)
    output = reporter(errors)
    run = Run(options, model, output)
    action = run.check if check else run.generate if dry_run else run.load
    failure = _carry_out(run, action, output)
    raise typer.Exit(_conclude(run.result, failure, errors, as_json=as_json))


def main(arguments: list[str]) -> int:
    """Run `shardmart load` with `arguments`; returns the exit code."""
    return run_app(app, "load", arguments)


def _exponent(text: str) -> Decimal:
    try:
        exponent = Decimal(text)
    except InvalidOperation:
        raise BadUseError(f"--zipf {text!r} is not a number") from None
    if not 0 <= exponent <= 3:
        raise BadUseError(f"--zipf {text} is not between 0 and 3")
    return exponent


def _carry_out(run: Run, action: Any, output: Reporter) -> ShardmartError | None:
    """Run with Ctrl-C and SIGTERM caught: the first lets batches in hand finish, the second ends at once."""
    try:
        with _interruptible(run, output):
            action()
    except ShardmartError as error:
        return error
    finally:
        output.end()
    return None


@contextmanager
def _interruptible(run: Run, output: Reporter) -> Iterator[None]:
    def handle(number: int, _: object) -> None:
        for each in previous:
            signal.signal(each, signal.SIG_DFL)
        run.stop()
        # In a thread: a handler runs between any two instructions, even half way through one of rich's own imports.
        notice = "stopping after the batches in hand; once more to stop at once"
        threading.Thread(target=output.notice, args=(notice,)).start()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _conclude(result: Result, failure: ShardmartError | None, errors: Console, *, as_json: bool) -> int:
    """Show the result and say in a line how it ended; returns the exit code."""
    code = failure.exit_code if failure else VERIFICATION_FAILED if result.faults else DONE
    if code == DONE and result.interrupted:
        code = INTERRUPTED
    if as_json:
        document = result.as_document() | {"exit_code": code, "error": str(failure) if failure else None}
        print(json.dumps(document, indent=2))
    elif failure is None:
        result.render(Console())
    for line in _closing_lines(result, failure):
        errors.print(f"shardmart load: {line}", highlight=False, markup=False, soft_wrap=True)
    return code


def _closing_lines(result: Result, failure: ShardmartError | None) -> Iterator[str]:
    again = f"{result.written:,} documents were written and stay: run the same command again to go on"
    if failure:
        yield str(failure)
        if result.written:
            yield again
    elif result.interrupted:
        yield f"interrupted. {again}"
    else:
        yield from (f"verification failed: {fault}" for fault in result.faults)
        yield from (f"for example {sample}" for sample in result.samples)
