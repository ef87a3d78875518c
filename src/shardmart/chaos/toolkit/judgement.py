"""What decides whether an experiment passed: each activity's result, and the status at the end.  Pure, and short.

Chaos Toolkit itself would call an experiment with a failed action "completed".
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ChaosError

PASSED, FAILED, COMPLETED = "passed", "failed", "completed"
STOPPED = ("interrupted", "aborted")
"""Chaos Toolkit's words for an experiment that did not come to its end."""
NO_FAULT = "NO FAULT: "
CONSEQUENCES = ("'", '"', "probe ")
"""How a problem begins that what was broken may have: a probe, no proof, that did not come out or was not within its
tolerance."""
PROOF = "proof"
"""How the name of a probe begins that says whether the fault is real."""

VARIABLE = re.compile(r"\$\{(\w+)\}")
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

Within = Callable[[Any, Any], bool]
"""Whether the second argument, an output, is within the first, a tolerance."""


@dataclass(frozen=True)
class Judged:
    """One activity: what was wrong (None when nothing), and whether a probe met its tolerance (None for an action)."""

    problem: str | None
    met: bool | None = None


def judge(activity: Mapping[str, Any], run: Mapping[str, Any], within: Within) -> Judged:
    """Hold an activity of an experiment to its word; `run` is Chaos Toolkit's record of it."""
    name = activity["name"]
    if run.get("status") != "succeeded":
        error = (run.get("exception") or ["no reason given"])[-1].strip()
        return Judged(f"{activity['type']} {name!r} failed: {error}")
    if activity["type"] != "probe":
        return Judged(None)
    if "tolerance" not in activity or within(activity["tolerance"], run.get("output")):
        return Judged(None, met=True)
    no_fault = NO_FAULT if name.startswith(PROOF) else ""
    expected = json.dumps(activity["tolerance"])
    return Judged(f"{no_fault}{name!r} is {run.get('output')!r}, expected {expected}", met=False)


def resolved(tolerance: Any, configuration: Mapping[str, Any]) -> Any:
    """A tolerance whose bounds are numbers: one given as text is arithmetic on the experiment's configuration.

    `"${delay_ms} + 10"` follows a delay that was given with `--var`; a fixed number would call the fault another one.
    ChaosError for text that is no arithmetic, or names what the configuration has not.
    """
    if not isinstance(tolerance, Mapping) or tolerance.get("type") != "range":
        return tolerance
    bounds = [_number(bound, configuration) if isinstance(bound, str) else bound for bound in tolerance["range"]]
    return {**tolerance, "range": bounds}


def _number(text: str, configuration: Mapping[str, Any]) -> float:
    def value(match: re.Match[str]) -> str:
        found = configuration.get(match[1])
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ChaosError(f"the bound {text!r} of a tolerance needs a number called {match[1]} in `configuration`")
        return repr(found)

    try:
        return _calculated(ast.parse(VARIABLE.sub(value, text), mode="eval").body)
    except (SyntaxError, TypeError, ZeroDivisionError, KeyError):
        raise ChaosError(f"the bound {text!r} of a tolerance is neither a number nor arithmetic") from None


def _calculated(node: ast.AST) -> float:
    """The value of numbers, + - * / and nothing else; TypeError or KeyError for more."""
    if isinstance(node, ast.BinOp):
        return float(OPERATORS[type(node.op)](_calculated(node.left), _calculated(node.right)))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    raise TypeError(type(node).__name__)


def judge_ledger(verdict: Mapping[str, Any]) -> str | None:
    """What is wrong by the ledger's verdict; None only when it says that it is clean."""
    return None if verdict.get("clean") is True else f"ledger: {verdict.get('sentence', 'no verdict')}"


def expected_failure(experiment: Mapping[str, Any]) -> str | None:
    """The pattern of the problem by which a negative control has to fail; None for an experiment that is none."""
    ours = [extension for extension in experiment.get("extensions") or [] if extension.get("name") == "shardmart"]
    return next((str(one["expected_failure"]) for one in ours if one.get("expected_failure")), None)


def failed_as_expected(expected: str, summary: Mapping[str, Any] | None) -> str | None:
    """None when a run failed by the expected problem, and its fault was real; else what it did instead, in words.

    `summary` is what the run left, None when it left nothing.  A control that failed by something else proves nothing,
    and neither does one whose fault was not there (an action failed, a proof did not hold), or that found more.
    """
    if summary is None:
        return "it never began"
    problems = summary.get("problems") or []
    others = [problem for problem in problems if not re.match(expected, problem)]
    if len(others) < len(problems) and all(problem.startswith(CONSEQUENCES) for problem in others):
        return None
    return f"it failed otherwise: {'; '.join(others)}" if problems else "it found nothing wrong"


def final_status(status: str, problems: Sequence[str]) -> str:
    """The status from which Chaos Toolkit makes its exit code, given the one it came to by itself."""
    return FAILED if problems and status not in STOPPED else status


def summary_status(status: str, *, deviated: bool) -> str:
    """The word of the report: `passed` only for an experiment that was completed and did not deviate."""
    return PASSED if status == COMPLETED and not deviated else FAILED if status == COMPLETED else status
