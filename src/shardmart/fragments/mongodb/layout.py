"""How the shop's collections are laid out: shard keys, zones, indexes and validators, from collections.json beside
this file.

Nothing here talks to a server.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def collections(*, catch_all: bool) -> list[dict[str, Any]]:
    """The declared collections, as the Ansible module `sharded_collections` takes them.

    With `catch_all` the validator of products takes every price, as the relational store's catch-all fragment does.
    """
    text = (resources.files(__package__) / "collections.json").read_text()
    found: list[dict[str, Any]] = json.loads(text)["collections"]
    if catch_all:
        found[0]["validator"]["$jsonSchema"]["properties"]["price_cents"] |= {"minimum": 0, "maximum": 999_999_999}
    return found
