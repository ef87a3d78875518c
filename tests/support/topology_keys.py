"""Every key that a topology may have, as the code has it: where it stands, what it takes, what it is without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shardmart.cluster.shop import BALANCED
from shardmart.declare.topology import Topology

COUNTS = {"members", "nodes"}
"""Lists that may be a count instead (`members: 3`)."""


ALIKE = re.compile(rf"^services\.({'|'.join(BALANCED)})\.")


def rows() -> dict[str, tuple[str, str]]:
    """Key → what it takes, and its default.

    The services behind the load balancer have the same keys and are one, SERVICE; config servers are as a shard.
    """
    found: dict[str, tuple[str, str]] = {}
    for path, takes, default in _rows(Topology, ""):
        key = ALIKE.sub("services.SERVICE.", path)
        assert found.setdefault(key, (takes, default)) == (takes, default), key
    sets = {key.partition(".")[2]: row for key, row in found.items() if key.startswith("config_servers.")}
    shards = {key.partition(".")[2]: row for key, row in found.items() if key.startswith("shards[].")}
    assert {key: row for key, row in shards.items() if key != "zones"} == sets
    return {key: row for key, row in found.items() if not key.startswith("config_servers.")}


def _rows(model: type[BaseModel], above: str) -> Iterator[tuple[str, str, str]]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        part = _model(field.annotation)
        many = "list" in str(field.annotation)
        path = f"{above}{name}"
        if part is None or name in COUNTS:
            yield path, _takes(name, schema["properties"][name], schema), _default(field)
        if part is not None:
            yield from _rows(part, f"{path}[]." if many else f"{path}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model(one))), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be said"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _takes(name: str, schema: dict[str, Any], whole: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _takes(name, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if kinds := [one for one in schema.get("anyOf", []) if one.get("type") != "null"]:
        return _takes(name, kinds[0], whole)
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return " or ".join(f"`{choice}`" for choice in choices)
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    if schema["type"] == "object":
        return "mapping"
    if schema["type"] == "array":
        return "count or list" if name in COUNTS else "list"
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f", {least} to {most}" if most is not None else f", at least {least}" if least is not None else ""
    return kind[schema["type"]] + bounds
