"""Exactly once: every acknowledged effect is there once, none that failed, unknown ones at most once.

Works on the tables `expected` (journal) and `seen` (final documents) of `staging`, the same way for every workload.
"""

from __future__ import annotations

from collections.abc import Iterator

from .staging import MUST, MUST_NOT, Staging
from .verdict import Verdict

Finding = tuple[str, int, str]
"""Kind, token, words."""

LOST = f"""SELECT e.token, e.key FROM expected e LEFT JOIN seen s ON s.token = e.token
           WHERE e.must = {MUST} AND s.token IS NULL"""  # noqa: S608 - our own numbers
DOUBLED = "SELECT token, COUNT(*), MIN(key) FROM seen GROUP BY token HAVING COUNT(*) > 1"
PHANTOM = f"""SELECT s.token, s.key, e.must FROM seen s LEFT JOIN expected e ON e.token = s.token
              WHERE e.token IS NULL OR e.must = {MUST_NOT}"""  # noqa: S608
TAMPERED = """SELECT s.token, e.key, e.amount, s.key, s.amount FROM seen s JOIN expected e ON e.token = s.token
              WHERE e.key IS NOT s.key OR e.amount IS NOT s.amount"""


def findings(staging: Staging) -> Iterator[Finding]:
    """Every effect that is not as the journal demands."""
    for token, key in staging.ask(LOST):
        yield "lost", token, f"acknowledged, but not in {key}"
    for token, times, key in staging.ask(DOUBLED):
        yield "doubled", token, f"took effect {times} times in {key}"
    for token, key, must in staging.ask(PHANTOM):
        why = "it was refused or answered 0" if must == MUST_NOT else "no client journaled it"
        yield "phantom", token, f"is in {key} although {why}"
    for token, key, amount, seen_key, seen_amount in staging.ask(TAMPERED):
        yield "tampered", token, f"journal says {key}: {amount}, the cluster says {seen_key}: {seen_amount}"


def check(staging: Staging, workload: str, verdict: Verdict) -> list[tuple[int, int]]:
    """Add the findings to `verdict`; returns (index in verdict.anomalies, token) of those kept, to be described."""
    kept = []
    for kind, token, words in findings(staging):
        if verdict.wants(kind):
            kept.append((len(verdict.anomalies), token))
        verdict.add(kind, workload, words)
    return kept
