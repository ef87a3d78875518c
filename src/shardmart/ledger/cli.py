"""`shardmart ledger`: run, check, clean.  Exit codes: 0 clean, 1 not clean, 2 bad use, 3 the cluster or a file failed,
130 interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.table import Table

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.protocol.connection import Credentials, Tls, describe
from shardmart.platforms.state import State, StateError, resolve_uri

from . import checker, collections, final_state, members
from .checks.verdict import KINDS, Verdict
from .journal import JournalError, Run
from .metrics import Window
from .runner import Options, Runner, connect
from .workloads import WORKLOADS

NOT_CLEAN, BAD_USE, FAILED, INTERRUPTED = 1, 2, 3, 130
FINAL_READ_TIMEOUT_SECONDS = 60

app = typer.Typer(
    help="Run a workload that remembers every acknowledged operation, and check what became of each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

Uri = Annotated[str | None, typer.Option(help="Connection string. Holds a password: prefer --uri-file.")]
UriFile = Annotated[Path | None, typer.Option(help="File that holds the connection string.")]
StateFolder = Annotated[
    Path | None, typer.Option("--state", help="State folder (default $SHARDMART_STATE, .shardmart).")
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.")]


def _fail(message: str, code: int = FAILED) -> typer.Exit:
    print(f"shardmart ledger: {message}", file=sys.stderr)
    return typer.Exit(code)


def _workloads(names: list[str]) -> tuple[str, ...]:
    wanted = [part for name in names for part in name.split(",") if part]
    if "all" in wanted:
        return tuple(WORKLOADS)
    if unknown := [name for name in wanted if name not in WORKLOADS]:
        raise _fail(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)} and all", BAD_USE)
    return tuple(dict.fromkeys(wanted))


@app.command()
def run(
    journal: Annotated[Path, typer.Option(help="Folder for the journals; must not hold a run yet.")],
    workload: Annotated[
        list[str], typer.Option(help="orders, stock, transfer, register, append or all; repeatable.")
    ] = [  # noqa: B006
        "all"
    ],
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients per workload.")] = 4,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds.")] = 30,
    rate: Annotated[float, typer.Option(min=0, help="Operations per second over all clients; 0 = no limit.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the clients' choices.")] = 0,
    write_concern: Annotated[
        str, typer.Option(help="majority or a number; less than majority loses writes.")
    ] = "majority",
    operation_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds before an operation counts as unknown.")
    ] = 10,
    fsync: Annotated[str, typer.Option(help="Journal to disk: always, never, or each so often, e.g. 100ms.")] = "100ms",
    double_submit: Annotated[
        float,
        typer.Option(min=0, max=1, help="Negative control: share of writes sent twice behind the journal's back."),
    ] = 0,
    database: Annotated[str, typer.Option(help="Database of the ledger.")] = "ledger",
    uri: Uri = None,
    uri_file: UriFile = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Run workloads and journal every operation: ok, failed or unknown."""
    options = Options(
        workloads=_workloads(workload),
        clients=clients,
        duration=duration,
        rate=rate,
        seed=seed,
        write_concern=write_concern,
        operation_timeout=operation_timeout,
        fsync=fsync,
        database=database,
        double_submit=double_submit,
    )
    try:
        options.sync_interval()
    except ValueError as error:
        raise _fail(str(error), BAD_USE) from None
    interrupted = False
    with connect(resolve_uri(uri, uri_file, user="ledger", state=state), options) as client:
        runner = Runner(client, options, journal)

        def stop(number: int, _: object) -> None:
            nonlocal interrupted
            interrupted = number == signal.SIGINT
            runner.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        totals = runner.run(_Progress(duration))
    if as_json:
        print(json.dumps({"run": runner.run_id, "journal": str(journal), **totals}))
    else:
        console.print(
            f"run [bold]{runner.run_id}[/]: {totals['ok']:,} ok, {totals['failed']:,} failed,"
            f" {totals['unknown']:,} unknown; now `shardmart ledger check {journal}`",
            soft_wrap=True,
        )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


class _Progress:
    """One line that is written over on a terminal, a plain line every five seconds elsewhere."""

    def __init__(self, duration: float) -> None:
        self._duration, self._last = duration, 0.0

    def __call__(self, window: Window, elapsed: float) -> None:
        text = (
            f"{elapsed:5.0f}/{self._duration:.0f} s  {window.ok:6} ok/s  {window.failed:4} failed"
            f"  {window.unknown:4} unknown  p50 {window.p50_ms:.1f} ms  p99 {window.p99_ms:.1f} ms"
        )
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(
                f"\r{text[:width]:<{width}}", end="\n" if elapsed >= self._duration else "", file=sys.stderr, flush=True
            )
        elif elapsed - self._last >= 5 or elapsed >= self._duration:
            self._last = elapsed
            print(text, file=sys.stderr, flush=True)


@app.command()
def check(
    journal: Annotated[Path, typer.Argument(help="Folder of the journals.")],
    offline: Annotated[bool, typer.Option(help="Judge by the final documents an earlier check kept.")] = False,
    skip_members: Annotated[bool, typer.Option(help="Do not look at the members behind the router.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds the members may take to become equal.")
    ] = members.WAIT_SECONDS,
    uri: Uri = None,
    uri_file: UriFile = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Say what became of every acknowledged operation. Exit 0 clean, 1 not clean."""
    run_of = Run.read(journal)
    started = time.monotonic()

    def say(text: str) -> None:
        if not as_json:
            console.print(f"[dim]{text}[/]")

    report = members.MembersReport()
    if not offline:
        milliseconds = FINAL_READ_TIMEOUT_SECONDS * 1000
        with MongoClient[dict[str, Any]](
            resolve_uri(uri, uri_file, user="ledger", state=state), serverSelectionTimeoutMS=milliseconds
        ) as client:
            say("reading the final documents")
            final_state.save(client, run_of, journal)
            found = State.find(state)
            if not skip_members and not (uri or uri_file) and found.describes_a_cluster():
                say("comparing the members")
                keyfile = Credentials(keyfile=found.keyfile, tls=Tls.trusting(found.authority))
                report = members.check(found.cluster(), keyfile, client, [run_of.database], wait)
            else:
                report.notes.append("the members behind the router were not looked at")
    verdict = checker.check(journal, progress=say)
    for problem in report.problems:
        verdict.add("members", "members", problem)
    verdict.notes += report.notes
    verdict.checked += report.checked
    document = verdict.as_json() | {"seconds": round(time.monotonic() - started, 2)}
    (journal / "verdict.json").write_text(json.dumps(document, indent=1) + "\n")
    if as_json:
        print(json.dumps(document))
    else:
        show(verdict, Console())
    if not verdict.clean:
        raise typer.Exit(NOT_CLEAN)


def show(verdict: Verdict, out: Console) -> None:
    """The verdict for people."""
    table = Table(title=f"Ledger of run {verdict.run}", title_justify="left")
    table.add_column("workload")
    for outcome in ("ok", "failed", "unknown"):
        table.add_column(outcome, justify="right")
    for workload, counter in verdict.operations.items():
        table.add_row(workload, *(f"{counter[outcome]:,}" for outcome in ("ok", "failed", "unknown")))
    out.print(table)
    for line in verdict.checked:
        out.print(f"[green]checked[/] {line}", highlight=False, soft_wrap=True)
    for line in verdict.notes:
        out.print(f"[yellow]note[/] {line}", highlight=False, soft_wrap=True)
    for anomaly in verdict.anomalies:
        out.print(
            f"[bold red]{anomaly.kind}[/] ({anomaly.workload}: {KINDS[anomaly.kind]}) {anomaly.detail}",
            highlight=False,
            soft_wrap=True,
        )
        for operation in anomaly.operations:
            out.print(f"    {operation}", highlight=False, markup=False, style="dim", soft_wrap=True)
    colour = "green" if verdict.clean else "bold red"
    out.print(f"[{colour}]{verdict.sentence()}[/]", highlight=False, soft_wrap=True)


@app.command()
def clean(
    run_id: Annotated[str | None, typer.Argument(help="Run to delete; all runs if not given.")] = None,
    database: Annotated[str, typer.Option(help="Database of the ledger.")] = "ledger",
    uri: Uri = None,
    uri_file: UriFile = None,
    state: StateFolder = None,
) -> None:
    """Delete the ledger's documents from the cluster (never the journals)."""
    with MongoClient[dict[str, Any]](resolve_uri(uri, uri_file, user="ledger", state=state)) as client:
        deleted = collections.clean(client, database, run_id)
    print(", ".join(f"{name} {count}" for name, count in deleted.items()) or "nothing to delete")


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code.  A user's mistake or a broken cluster is one line."""
    try:
        result = app(arguments, prog_name="shardmart ledger", standalone_mode=False)
    except typer.Exit as exit_:
        return exit_.exit_code
    except typer.Abort:
        return INTERRUPTED
    except (StateError, JournalError, ClusterError, collections.PrepareError) as error:
        print(f"shardmart ledger: {error}", file=sys.stderr)
        return FAILED
    except PyMongoError as error:
        print(f"shardmart ledger: {describe(error)}", file=sys.stderr)
        return FAILED
    except Exception as error:  # click's own usage errors carry an exit code and a message
        if not hasattr(error, "exit_code") or not hasattr(error, "format_message"):
            raise
        print(f"shardmart ledger: {error.format_message()} (see --help)", file=sys.stderr)
        return BAD_USE
    return int(result or 0)
