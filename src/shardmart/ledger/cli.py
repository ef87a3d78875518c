"""`shardmart ledger`: run, check, clean.  It knows no workload and no system by name."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shardmart.command import run_app
from shardmart.errors import INTERRUPTED, UNREACHABLE, BadUseError

from . import checker, final_state
from .checks.verdict import Verdict
from .journal import Run
from .metrics import Window
from .runner import Options, Runner
from .system import Examination, Target
from .workloads import WORKLOADS, Workload, connected

NOT_CLEAN = 1

app = typer.Typer(
    help="Run a workload that remembers every acknowledged operation, and check what became of each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

BY_NAME = ", ".join(name for name, workload in WORKLOADS.items() if workload.by_name_only)
Chosen = Annotated[
    list[str],
    typer.Option(help=f"{', '.join(WORKLOADS)}, or all, which leaves out {BY_NAME}; repeatable."),
]
Uri = Annotated[str | None, typer.Option(help="Connection string. Holds a password: prefer --uri-file.")]
UriFile = Annotated[Path | None, typer.Option(help="File that holds the connection string; of a ring its settings.")]
StateFolder = Annotated[
    Path | None, typer.Option("--state", help="State folder (default $SHARDMART_STATE, .shardmart).")
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.")]


def _workloads(names: list[str]) -> list[Workload]:
    wanted = [part for name in names for part in name.split(",") if part]
    if "all" in wanted:
        wanted += [name for name, workload in WORKLOADS.items() if not workload.by_name_only]
        wanted = [name for name in wanted if name != "all"]
    if unknown := [name for name in wanted if name not in WORKLOADS]:
        raise BadUseError(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)} and all")
    return [WORKLOADS[name] for name in dict.fromkeys(wanted)]


@app.command()
def run(
    journal: Annotated[Path, typer.Option(help="Folder for the journals; must not hold a run yet.")],
    workload: Chosen = ["all"],  # noqa: B006
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
    journal_mb: Annotated[
        float | None, typer.Option(min=0.01, help="End the run when its journals are larger than this, MiB.")
    ] = None,
    until_input_ends: Annotated[
        bool, typer.Option(help="Stop, too, when standard input ends: with whoever started this, however that ends.")
    ] = False,
    database: Annotated[str, typer.Option(help="Database of the ledger.")] = "ledger",
    uri: Uri = None,
    uri_file: UriFile = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Run workloads and journal every operation: ok, failed or unknown."""
    workloads = _workloads(workload)
    options = Options(
        workloads=tuple(each.name for each in workloads),
        clients=clients,
        duration=duration,
        rate=rate,
        seed=seed,
        write_concern=write_concern,
        operation_timeout=operation_timeout,
        fsync=fsync,
        database=database,
        double_submit=double_submit,
        journal_mb=journal_mb,
    )
    options.sync_interval()
    target = Target(
        database,
        uri,
        uri_file,
        state,
        write_concern,
        operation_timeout,
        connections=max(100, clients * len(workloads) + 10),
    )
    interrupted = False
    with connected(workloads, target) as systems:
        runner = Runner(workloads, systems, options, journal)

        def stop(number: int, _: object) -> None:
            nonlocal interrupted
            interrupted = number == signal.SIGINT
            runner.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        if until_input_ends:
            threading.Thread(target=_stop_at_the_end_of_input, args=(runner,), daemon=True).start()
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


def _stop_at_the_end_of_input(runner: Runner) -> None:
    sys.stdin.read()
    runner.stop()


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
    skip_members: Annotated[
        bool, typer.Option(help="Do not look behind the system, at the members of the cluster.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds members may take to become equal, and a shop to come to rest; what they need if not given.",
        ),
    ] = None,
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

    report = Examination()
    if not offline:
        workloads = checker.workloads_of(run_of)
        with connected(workloads, Target(run_of.database, uri, uri_file, state, rest_seconds=wait)) as systems:
            say("reading the final documents")
            final_state.save(workloads, systems, run_of.id, journal)
            if skip_members:
                report.notes.append("the members behind the router were not looked at")
            else:
                say("looking at what stands behind")
                for system in systems.values():
                    report.add(system.examine(wait))
    verdict = checker.check(journal, progress=say)
    checker.refuse_empty(verdict)
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
            f"[bold red]{anomaly.kind}[/] ({anomaly.workload}: {verdict.kinds[anomaly.kind]}) {anomaly.detail}",
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
    workload: Chosen = ["all"],  # noqa: B006
    database: Annotated[str, typer.Option(help="Database of the ledger.")] = "ledger",
    uri: Uri = None,
    uri_file: UriFile = None,
    state: StateFolder = None,
) -> None:
    """Delete the ledger's documents from the cluster (never the journals)."""
    deleted: dict[str, int] = {}
    with connected(_workloads(workload), Target(database, uri, uri_file, state)) as systems:
        for system in systems.values():
            deleted |= system.clean(run_id)
    print(", ".join(f"{name} {count}" for name, count in deleted.items()) or "nothing to delete")


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "ledger", arguments, os_error=UNREACHABLE)
