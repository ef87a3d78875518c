"""The control of every experiment: the ledger around it, a verdict at the end, and no failure that ends with exit 0.

Before: refuse what this cluster cannot do; a folder, the ledger workload, the watcher.  After each activity: a failed
action, a probe out of its tolerance, or a proof that shows no fault fails the experiment.  After all: heal, stop the
workload, check the ledger, write the report, and set the status from which `chaos run` makes its exit code.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaoslib.exceptions import InterruptExecution  # type: ignore[import-untyped]
from chaoslib.hypothesis import within_tolerance  # type: ignore[import-untyped]
from chaoslib.types import Dry  # type: ignore[import-untyped]
from pymongo.errors import PyMongoError

from shardmart.errors import ShardmartError
from shardmart.ledger.metrics import METRICS_FILE, read_windows
from shardmart.platforms.state import State

from ..errors import ChaosError
from ..lifecycle import heal, records, running
from ..lifecycle.running import RunningExperiment
from ..observation.workload import Observation, observation
from ..targets.selectors import Targets
from .experiments import refuse_impossible
from .judgement import FAILED, STOPPED, final_status, judge, judge_ledger, resolved, summary_status

logger = logging.getLogger("chaostoolkit")

START_SECONDS = 60
WITHOUT_ACTIVITIES = (Dry.ACTIVITIES, Dry.ACTIONS, Dry.PROBES)


@dataclass
class _Session:
    experiment: RunningExperiment
    state: State
    observation: Observation
    cool_down_s: float
    workload: dict[str, Any]
    platform: str
    judge_before_healing: bool
    problems: list[str] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    verdict: dict[str, Any] | None = None
    ended: float = 0.0
    began: bool = False
    stopped: bool = False
    finished: bool = False


_session: _Session | None = None
_dry = False
"""Whether Chaos Toolkit only goes through the motions (`chaos run --dry`): nothing is started, judged or written."""


def before_experiment_control(
    context: dict[str, Any],
    workloads: str = "all",
    clients: int = 2,
    rate: float = 200,
    warm_up_s: float = 5,
    cool_down_s: float = 3,
    write_concern: str = "majority",
    operation_timeout_s: float = 10,
    judge_before_healing: bool = False,
    **_: Any,
) -> None:
    """Start the ledger and the watcher, and wait until writes are acknowledged.  Interrupts the experiment if not.

    `judge_before_healing`: the verdict is about the fault itself, as in a control that takes a rule away.
    """
    global _session, _dry
    _dry = context.get("dry") in WITHOUT_ACTIVITIES
    if _dry:
        logger.info("a dry run: no workload is started, and no verdict given")
        return
    workload = {
        "workloads": workloads,
        "clients": clients,
        "rate": rate,
        "write_concern": write_concern,
        "operation_timeout_s": operation_timeout_s,
    }
    try:
        state = State.find()
        targets = Targets(state)
        refuse_impossible(targets, context)
        running.hold_lock(state)  # before anything is touched: what is active may be another experiment's
        if left := heal.heal(state):
            logger.warning("ended faults that were still active: %s", ", ".join(left))
        folder = _folder(state, context["title"])
        experiment = RunningExperiment(folder, context["title"], time.time())
        made = observation(targets, experiment, workloads, _arguments(workload))
        _session = _Session(
            experiment, state, made, float(cool_down_s), workload, targets.platform.name, judge_before_healing
        )
        atexit.register(_stop_everything)
        running.begin(state, experiment)
        made.start()
        _wait_for_writes(_session)
        logger.info("the ledger writes to %s", folder)
        _session.began = True
        time.sleep(float(warm_up_s))
    except (ShardmartError, PyMongoError, OSError) as error:
        _stop_everything()
        running.end(State.find())
        raise InterruptExecution(f"the experiment cannot begin: {' '.join(str(error).split())[:300]}") from None


def after_activity_control(
    context: dict[str, Any], state: dict[str, Any], configuration: dict[str, Any] | None = None, **_: Any
) -> None:
    """Hold every activity to its word."""
    if _session is None or not isinstance(state, dict):
        return
    try:
        activity = _with_numbers(context, configuration or {}, _session)
    except ChaosError as error:
        _problem(f"{context['type']} {context['name']!r}: {error}")
        return
    judged = judge(activity, state, _within)
    if judged.met is not None:
        name, output, tolerance = activity["name"], state.get("output"), activity.get("tolerance")
        if tolerance is not None:
            state["tolerance_met"] = judged.met
        _session.measured.append(
            {"at": time.time(), "name": name, "value": output, "tolerance": tolerance, "met": judged.met}
        )
        logger.info("%s: %s%s", name, output, "" if judged.met else "  OUT OF TOLERANCE")
    if judged.problem:
        _problem(judged.problem)


def _with_numbers(activity: dict[str, Any], configuration: dict[str, Any], session: _Session) -> dict[str, Any]:
    """The activity with a tolerance of numbers, those of the experiment's configuration on this platform included."""
    if "tolerance" not in activity:
        return activity
    platform = session.platform
    here = {name: v.get(platform) if isinstance(v, dict) else v for name, v in configuration.items()}
    return {**activity, "tolerance": resolved(activity["tolerance"], here)}


def _within(tolerance: Any, output: Any) -> bool:
    return bool(within_tolerance(tolerance, output, configuration={}, secrets={}))


def _problem(text: str) -> None:
    assert _session is not None
    if text not in _session.problems:
        _session.problems.append(text)
        logger.error(text)


def after_method_control(**_: Any) -> None:
    """Have the verdict now where it is about the fault itself: what comes next heals it."""
    if _session is not None and _session.began and _session.judge_before_healing:
        _have_verdict(_session)


def _have_verdict(session: _Session) -> dict[str, Any]:
    """Stop the workload and the watcher, and ask the ledger; once."""
    if session.verdict is None:
        if reason := session.observation.ended():
            _problem(f"the ledger workload ended by itself: {reason}")
        else:
            time.sleep(session.cool_down_s)
        session.ended = time.time()
        _stop_observation(session)
        session.verdict = session.observation.check()
    return session.verdict


def after_experiment_control(context: dict[str, Any], state: dict[str, Any], **_: Any) -> None:
    """Heal, stop, check, report; and make the status say what was found."""
    if _dry:
        return
    if _session is None or not _session.began:
        state["status"] = FAILED
        _stop_everything()
        return
    session = _session
    try:
        heal.heal(session.state)
        verdict = _have_verdict(session)
        if problem := judge_ledger(verdict):
            _problem(problem)
        if state["status"] in STOPPED:
            _problem(f"the experiment was {state['status']}")
        state["status"] = final_status(state["status"], session.problems)
        summary = {
            "title": session.experiment.title,
            "description": context.get("description", ""),
            "started": session.experiment.started,
            "ended": session.ended,
            "status": summary_status(state["status"], deviated=bool(state.get("deviated"))),
            "deviated": bool(state.get("deviated")),
            "problems": session.problems,
            "measured": session.measured,
            "workload": session.workload,
            "verdict": verdict,
            "source": str((context.get("configuration") or {}).get("source", "")),
        }
        (session.experiment.folder / "summary.json").write_text(json.dumps(summary, indent=1, default=str) + "\n")
        from ..report.page import write_report

        html = write_report(session.experiment.folder)
        logger.info("verdict: %s", verdict.get("sentence", "none"))
        logger.info("report: %s", html)
    except Exception as error:  # Chaos Toolkit hides what a control raises: a hidden failure must not pass.
        logger.exception("the control failed")
        state["status"] = FAILED
        session.problems.append(f"the control failed: {error}")
    finally:
        _stop_everything()


def _folder(state: State, title: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = records.chaos_folder(state) / "runs" / f"{stamp}-{slug}"
    folder.mkdir(parents=True)
    return folder


def _arguments(workload: dict[str, Any]) -> list[str]:
    return [
        *("--duration", "86400", "--clients", str(workload["clients"])),
        *("--rate", str(workload["rate"]), "--write-concern", str(workload["write_concern"])),
        *("--operation-timeout", str(workload["operation_timeout_s"])),
    ]


def _wait_for_writes(session: _Session) -> None:
    end = time.monotonic() + START_SECONDS
    metrics = session.experiment.ledger / METRICS_FILE
    while not (metrics.exists() and any(window.ok for window in read_windows(session.experiment.ledger))):
        if reason := session.observation.ended():
            raise ChaosError(f"the ledger ended with {reason}")
        if time.monotonic() > end:
            raise ChaosError(f"waited {START_SECONDS} s for the ledger's first acknowledged write")
        time.sleep(0.1)


def _stop_everything() -> None:
    """End workload and watcher; called once more at exit, so that nothing is left running."""
    session = _session
    if session is None or session.finished:
        return
    session.finished = True
    _stop_observation(session)
    running.end(session.state)


def _stop_observation(session: _Session) -> None:
    """End workload and watcher; once."""
    if not session.stopped:
        session.stopped = True
        session.observation.stop()
