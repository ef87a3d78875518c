"""Which one-line mistakes are made of a module's lines."""

from __future__ import annotations

import pytest

from tests.support.mutants.__main__ import JUDGES
from tests.support.mutants.mutations import mutations


@pytest.mark.parametrize(
    ("line", "mistakes"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a == b != c", {"x = a != b != c", "x = a == b == c"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = a is not None", {"x = a is None"}),
        ("x = a and b and c", {"x = a or b and c", "x = a and b or c"}),
        ("x = not a", {"x = a"}),
        ("x = a - -1", {"x = a + -1", "x = a - 1"}),
        ("x += 1", {"x -= 1"}),
        ("x = f(a, check=True)", {"x = f(a, check=False)"}),
        ("x = 'é' == y", {"x = 'é' != y"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if (not (a))]"}),
        ("x = a if b else c", {"x = a if (not (b)) else c"}),
        ("while a: pass", {"while (not (a)): pass"}),
        ("x = 'a == b'  # a and not b", set()),
        ("def f(a: 'b | None' = 3) -> bool: pass", set()),
        ("@dataclass(frozen=True)\nclass A: pass", set()),
        ("if TYPE_CHECKING: import x", set()),
    ],
)
def test_mistakes_of_a_line(line: str, mistakes: set[str]) -> None:
    assert {mutation.apply(line) for mutation in mutations(line)} == mistakes


def test_only_one_line_changes() -> None:
    source = "a = 1\nif b:\n    c = d > e\n"
    assert {mutation.apply(source) for mutation in mutations(source)} == {
        "a = 1\nif (not (b)):\n    c = d > e\n",
        "a = 1\nif b:\n    c = d >= e\n",
    }


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_every_judge_has_modules_that_can_be_wrong(judge: object) -> None:
    assert all(module.exists() for module in judge.modules())  # type: ignore[attr-defined]
    assert sum(len(mutations(module.read_text())) for module in judge.modules()) > 20  # type: ignore[attr-defined]
