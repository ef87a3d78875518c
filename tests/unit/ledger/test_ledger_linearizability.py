"""The search for a linearization, against hand-made histories and against brute force."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from shardmart.ledger.checks.linearizability import Call, check


def test_sequential_history_is_linearizable() -> None:
    assert check(
        [Call("write", 0, 1, 5), Call("read", 2, 3, 5), Call("cas", 4, 5, 6, 5), Call("read", 6, 7, 6)]
    ).linearizable


def test_concurrent_writes_may_take_either_order() -> None:
    calls = [Call("write", 0, 10, 1), Call("write", 0, 10, 2), Call("read", 11, 12, 1)]
    assert check(calls).linearizable
    assert check([*calls, Call("read", 13, 14, 2)]).linearizable is False


def test_unanswered_write_may_take_effect_late() -> None:
    calls = [Call("write", 0, None, 9), Call("write", 1, 2, 1), Call("read", 3, 4, 1), Call("read", 5, 6, 9)]
    assert check(calls).linearizable


def test_unanswered_write_may_be_what_a_compare_and_set_found() -> None:
    assert check([Call("write", 0, None, 9), Call("cas", 1, 2, 5, 9)]).linearizable


def test_unanswered_write_takes_effect_at_most_once() -> None:
    calls = [
        Call("write", 0, None, 9),
        Call("read", 1, 2, 9),
        Call("write", 3, 4, 1),
        Call("read", 5, 6, 1),
        Call("read", 7, 8, 9),
    ]
    assert check(calls).linearizable is False


def test_refused_compare_and_set_needs_another_value() -> None:
    refused = Call("cas", 2, 3, 7, 5, done=False)
    assert check([Call("write", 0, 1, 5), refused]).linearizable is False
    # The unanswered write, seen by nobody, is what the refusal may be owed to.
    assert check([Call("write", 0, 1, 5), Call("write", 0, None, 8), refused]).linearizable
    # Also one that was sent in the very moment in which the refusal came: what touches is concurrent.
    at_its_end = Call("write", refused.end or 0, None, 8)
    assert check([Call("write", 0, 1, 5), at_its_end, refused]).linearizable


def test_exhausted_budget_is_undecided() -> None:
    calls = [Call("write", 0, 100, n) for n in range(12)] + [Call("read", 101, 102, 99)]
    assert check(calls, budget=50).linearizable is None


def test_failure_says_what_cannot_follow() -> None:
    result = check([Call("write", 0, 1, 1), Call("read", 2, 3, 2)])
    assert (result.prefix, result.stuck, result.state) == ((0,), (1,), 1)


calls = st.builds(
    lambda kind, start, length, value, expected, done: Call(
        kind, start, None if length is None and kind != "read" else start + (length or 1), value, expected, done
    ),
    st.sampled_from(["read", "write", "cas"]),
    st.integers(0, 8),
    st.one_of(st.none(), st.integers(1, 6)),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)


def brute_force(history: list[Call]) -> bool:
    """Every order of every choice of the unanswered calls, tried one by one."""
    answered = [i for i, c in enumerate(history) if c.end is not None]
    unanswered = [i for i, c in enumerate(history) if c.end is None]
    for choice in range(1 << len(unanswered)):
        chosen = answered + [i for bit, i in enumerate(unanswered) if choice >> bit & 1]
        for order in permutations(chosen):
            if explains([history[i] for i in order]):
                return True
    return False


def explains(order: list[Call]) -> bool:
    for later, second in enumerate(order):
        for first in order[:later]:
            if second.end is not None and second.end < first.start:
                return False
    state: int | None = None
    for call in order:
        if call.kind == "read":
            if call.value != state:
                return False
        elif call.kind == "write":
            state = call.value
        elif call.done or call.end is None:
            if state != call.expected:
                return False
            state = call.value
        elif state == call.expected:
            return False
    return True


@settings(max_examples=400)
@given(st.lists(calls, max_size=5))
def test_search_agrees_with_brute_force(history: list[Call]) -> None:
    assert check(history).linearizable is brute_force(history)
