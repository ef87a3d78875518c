"""The frozen pools of Faker values (pools.json), read once per process.

It never imports Faker: freeze drew the values, see there why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("pools.json")

Name = tuple[str, str]
"""A name as written, and as in a mail address."""


@dataclass(frozen=True)
class Locale:
    """What customers of one country are made of; first and last names are kept per gender, so that they agree."""

    country: str
    family_name_first: bool
    people: tuple[tuple[Sequence[Name], Sequence[Name]], ...]
    streets: Sequence[tuple[str, str]]
    places: Sequence[tuple[str, str]]
    mail_hosts: Sequence[str]


@dataclass(frozen=True)
class Pools:
    """All pools: locales by region, and the words of product names."""

    faker_version: str
    makers: Sequence[str]
    colours: Sequence[str]
    locales: dict[str, tuple[Locale, ...]]


@cache
def load() -> Pools:
    """The frozen pools."""
    document = json.loads(FILE.read_text(encoding="utf-8"))
    locales: dict[str, tuple[Locale, ...]] = {}
    for entry in document["locales"].values():
        region = entry["region"]
        locales[region] = (*locales.get(region, ()), _locale(entry))
    return Pools(document["faker"], document["makers"], document["colours"], locales)


def _locale(entry: dict[str, Any]) -> Locale:
    return Locale(
        country=entry["country"],
        family_name_first=entry["family_name_first"],
        people=tuple((gender["first"], gender["last"]) for gender in entry["people"].values()),
        streets=entry["streets"],
        places=entry["places"],
        mail_hosts=entry["mail_hosts"],
    )
