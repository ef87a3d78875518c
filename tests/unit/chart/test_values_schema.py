"""Claims of every chart's values.schema.json: a part that is set to null is refused in words, not by a nil pointer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

HELM = Path(__file__).parents[3] / "helm"
CHARTS = sorted(path.parent.name for path in HELM.glob("*/values.schema.json"))
MAY_GO = ("requests", "limits")
"""A person who removes them wants none: no template looks into them."""


def missing(values: Mapping[str, Any], schema: Mapping[str, Any], whole: Mapping[str, Any], path: str) -> Iterator[str]:
    """The parts of `values` that have something in them, and which `schema` would let a person take away."""
    alternatives = [schema, *schema.get("allOf", ())]
    alternatives += [referred(one["$ref"], whole) for one in alternatives if "$ref" in one]
    required = {name for one in alternatives for name in one.get("required", ())}
    for name, value in values.items():
        if not isinstance(value, dict) or not value or name in MAY_GO:
            continue
        if name not in required:
            yield path + name
        for one in alternatives:
            if inner := one.get("properties", {}).get(name):
                yield from missing(value, inner, whole, f"{path}{name}.")
                break


def referred(name: str, whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` of the same file is."""
    found = whole
    for word in name.removeprefix("#/").split("/"):
        found = found[word]
    return found


@pytest.mark.parametrize("chart", CHARTS)
def test_a_part_that_templates_look_into_is_required_by_the_schema(chart: str) -> None:
    schema = json.loads((HELM / chart / "values.schema.json").read_text())
    values = yaml.safe_load((HELM / chart / "values.yaml").read_text())
    assert list(missing(values, schema, schema, "")) == []
