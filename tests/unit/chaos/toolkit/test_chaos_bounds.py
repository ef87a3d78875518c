"""Bounds of a tolerance that follow the experiment's configuration: only a number may stand for a number."""

from __future__ import annotations

from typing import Any

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.toolkit.judgement import resolved


def bounds(text: str, configuration: dict[str, Any]) -> Any:
    return resolved({"type": "range", "range": [text, 500]}, configuration)["range"][0]


def test_bound_is_calculated_from_numbers() -> None:
    assert bounds("${delay_ms} + 10", {"delay_ms": 250}) == 260
    assert bounds("${delay_ms} * 2 - 1", {"delay_ms": 0.5}) == 0


@pytest.mark.parametrize("configuration", [{}, {"delay_ms": None}, {"delay_ms": "250"}, {"delay_ms": True}])
def test_what_is_no_number_is_named(configuration: dict[str, Any]) -> None:
    words = r"the bound '\$\{delay_ms\} \+ 10' of a tolerance needs a number called delay_ms in `configuration`"
    with pytest.raises(ChaosError, match=words):
        bounds("${delay_ms} + 10", configuration)
