"""`shardmart chaos`: run experiments, heal, engine, reports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shardmart.command import run_app
from shardmart.errors import INTERRUPTED, UNREACHABLE, BadUseError
from shardmart.platforms.state import State

from .errors import ChaosError, ImpossibleError
from .lifecycle import heal as healing
from .lifecycle import records, running
from .lifecycle.engine import FAULTS, Engine, Plan
from .lifecycle.foreground import run_to_its_end
from .report import runs
from .targets.selectors import Targets
from .toolkit import judgement

FAULT_HELP = f"What may happen; repeatable: {', '.join(FAULTS)}, all."
EXPERIMENT_FAILED = 1

app = typer.Typer(
    help="Faults that are proved, and a verdict on every acknowledged write.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

StateFolder = Annotated[
    Path | None, typer.Option("--state", help="State folder (default $SHARDMART_STATE, .shardmart).")
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.")]


def _use(state: Path | None) -> State:
    """The state folder; actions and probes, which Chaos Toolkit calls, find the same one."""
    found = State.find(state)
    os.environ["SHARDMART_STATE"] = str(found.folder)
    return found


def _chaos_toolkit() -> str:
    beside = Path(sys.executable).with_name("chaos")
    program = str(beside) if beside.exists() else shutil.which("chaos")
    if program is None:
        raise ChaosError("Chaos Toolkit is not installed: pip install 'shardmart[chaos]'")
    return program


@app.command("run")
def run_experiments(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files.", exists=True, dir_okay=False)],
    times: Annotated[int, typer.Option(min=1, help="How often to run each.")] = 1,
    expect_failure: Annotated[
        bool, typer.Option(help="Negative controls: exit 0 only if every run fails, for the reason that it names.")
    ] = False,
    where_possible: Annotated[bool, typer.Option(help="Leave out, and name, what this cluster cannot do.")] = False,
    var: Annotated[
        list[str] | None, typer.Option(help="Another value of the experiment's configuration, as KEY:TYPE=VALUE.")
    ] = None,
    state: StateFolder = None,
) -> None:
    """Run experiments one after the other with Chaos Toolkit, and sum them up in a table.

    Each run leaves a report in chaos/runs of the state folder.  Exit 1 if any failed; 4, with nothing started, if this
    cluster cannot do one; 130 after Ctrl-C, which heals the fault and has the ledger checked before it ends.
    """
    found = _use(state)
    program = _chaos_toolkit()
    running.refuse_second(found)
    experiments = _possible(Targets(found), experiments, leave_out=where_possible)
    expected = _expected_failures(experiments) if expect_failure else {}
    runs_folder = found.folder / "chaos" / "runs"
    failed = passed = 0
    otherwise = []
    started = time.time()
    for path in experiments:
        for _ in range(times):
            journal = found.folder / "chaos" / f"journal-{path.stem}.json"
            journal.parent.mkdir(parents=True, exist_ok=True)
            before = set(runs_folder.glob("*"))
            code, stopped = run_to_its_end(
                [
                    *(program, "--no-version-check", "--log-file", str(journal.with_suffix(".log"))),
                    *("run", "--journal-path", str(journal), "--rollback-strategy", "always"),
                    *(f"--var={each}" for each in var or []),
                    str(path),
                ],
                "the fault is healed and the ledger checked",
            )
            if stopped:
                print(f"\n{_tables(runs_folder, started)}")
                raise typer.Exit(INTERRUPTED)
            failed, passed = failed + bool(code), passed + (not code)
            if path in expected:
                instead = judgement.failed_as_expected(expected[path], _summary_of(set(runs_folder.glob("*")) - before))
                otherwise += [f"{path.name} did not fail as it must: {instead}"] if instead else []
    print(f"\n{passed} passed, {failed} failed; reports in {runs_folder}\n")
    print(_tables(runs_folder, started))
    for line in otherwise:
        print(line, file=sys.stderr)
    if passed or otherwise if expect_failure else failed:
        raise typer.Exit(EXPERIMENT_FAILED)


def _tables(runs_folder: Path, since: float = 0.0) -> str:
    """What was proved, and where the workload was a shop's what became of its orders."""
    from .report import shop_table, table

    orders = shop_table.shop_rows(runs_folder, since)
    proved = table.markdown(table.summarize(runs_folder, since))
    return f"{proved}\n\n{shop_table.markdown(orders)}" if orders else proved


def _expected_failures(experiments: list[Path]) -> dict[Path, str]:
    """By which problem each of them has to fail; BadUseError for one that does not say it."""
    from .toolkit.experiments import read

    expected = {path: judgement.expected_failure(read(path)) for path in experiments}
    if silent := [path for path, pattern in expected.items() if pattern is None]:
        raise BadUseError(
            f'{silent[0]} does not say how it must fail: give it {{"name": "shardmart", "expected_failure": PATTERN}} '
            "in `extensions`"
        )
    return {path: pattern for path, pattern in expected.items() if pattern}


def _summary_of(folders: set[Path]) -> dict[str, Any] | None:
    """What the run left in its new folder; None when it left no summary."""
    for folder in folders:
        with contextlib.suppress(ChaosError):
            return runs.read_summary(folder)
    return None


def _possible(targets: Targets, experiments: list[Path], *, leave_out: bool) -> list[Path]:
    """Those that this cluster can do; ImpossibleError for the first that it cannot, unless they are left out."""
    from .toolkit.experiments import read, refuse_impossible

    possible = []
    for path in experiments:
        try:
            refuse_impossible(targets, read(path))
        except ImpossibleError as error:
            if not leave_out:
                raise
            print(f"left out: {error}", file=sys.stderr)
        else:
            possible.append(path)
    return possible


@app.command()
def heal(state: StateFolder = None) -> None:
    """Stop button: end every fault now, also those whose guard was killed."""
    ended = healing.heal(_use(state))
    print("\n".join(ended) if ended else "no fault is active")


@app.command()
def faults(state: StateFolder = None, as_json: Json = False) -> None:
    """The faults of this cluster so far, newest last."""
    found = records.records(_use(state))
    if as_json:
        print(json.dumps([asdict(record) for record in found]))
        return
    table = Table(title="Faults", title_justify="left")
    for column in ("id", "fault", "status", "ended by"):
        table.add_column(column, overflow="fold")
    for record in found:
        table.add_row(record.id, record.words(), record.status, record.reason or "")
    Console().print(table)


@app.command()
def engine(
    fault: Annotated[list[str], typer.Option(help=FAULT_HELP)] = ["latency"],  # noqa: B006
    every: Annotated[str, typer.Option(help="Seconds between faults, least-most.")] = "120-300",
    length: Annotated[str, typer.Option(help="Seconds a fault lasts, least-most.")] = "15-90",
    delay_ms: Annotated[float, typer.Option(min=1, max=10_000, help="Delay of latency faults.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same choices.")] = 0,
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds; for ever if not given.")] = None,
    maximum: Annotated[int | None, typer.Option(min=1, help="Stop after so many faults.")] = None,
    calm: Annotated[float, typer.Option(min=0, help="Seconds a set is left alone after a fault on it.")] = 90,
    state: StateFolder = None,
) -> None:
    """Inject faults at random until stopped (Ctrl-C, SIGTERM, or `shardmart chaos heal` for the one that is active).

    Never two faults at a time, never two members of one set within --calm seconds, none while a set has no primary.
    """
    wanted = tuple(FAULTS) if "all" in fault else tuple(fault)
    if unknown := [name for name in wanted if name not in FAULTS]:
        raise BadUseError(f"no fault {unknown[0]!r}; there are {', '.join(FAULTS)} and all")
    targets = Targets(_use(state))
    targets.require_cluster()
    stop = threading.Event()
    interrupted = False

    def on_signal(number: int, _: Any) -> None:
        nonlocal interrupted
        interrupted = number == signal.SIGINT
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    plan = Plan(
        faults=wanted,
        pause_s=_range(every, "--every"),
        length_s=_range(length, "--length"),
        delay_ms=delay_ms,
        seed=seed,
        duration_s=duration,
        calm_s=calm,
        maximum_faults=maximum,
    )
    print(f"engine: seed {seed}, faults {', '.join(wanted)}; stop with Ctrl-C", flush=True)
    Engine(targets, plan, lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)).run(stop)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _range(text: str, option: str) -> tuple[float, float]:
    try:
        least, _, most = text.partition("-")
        bounds = float(least), float(most or least)
    except ValueError:
        bounds = 0.0, 0.0
    if not 0 < bounds[0] <= bounds[1]:
        raise BadUseError(f"{option} is seconds like 120-300, not {text!r}")
    return bounds


@app.command()
def report(
    folder: Annotated[
        Path | None,
        typer.Argument(help="One experiment's folder, or a folder of many; default: all of this state folder."),
    ] = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Write an experiment's page and picture again, or sum up many runs in one table."""
    from .report import page, table

    found = _use(state)
    folder = folder or found.folder / "chaos" / "runs"
    if (folder / runs.SUMMARY).exists():
        print(page.write_report(folder))
        return
    rows = table.summarize(folder)
    if not rows:
        raise ChaosError(f"{folder} holds no finished experiment")
    print(json.dumps([asdict(row) for row in rows]) if as_json else _tables(folder))


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "chaos", arguments, os_error=UNREACHABLE)
