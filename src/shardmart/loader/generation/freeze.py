"""Draw the pools of realistic values from Faker and write them to pools.json.

`python -m shardmart.loader.generation.freeze` is run by a developer when locales are added or Faker is renewed, never
at load time.  Freezing them is what makes the documents of a seed the same on every machine: Faker's lists change
between its versions, and importing it with twelve locales costs more than loading the reference demo does
(docs/decisions, "Frozen pools").
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import faker
from faker import Faker

from .pools import FILE

SEED = 1_000_003
FIRST_NAMES = 120
LAST_NAMES = 250
STREETS = 200
PLACES = 150
MAIL_HOSTS = 16
MAKERS = 150
COLOURS = 80
PATIENCE = 40
"""Draws per wanted value before a locale is taken to have no more of them."""

LOCALES: dict[str, tuple[str, ...]] = {
    "APJ": ("ja_JP", "en_IN", "en_AU", "id_ID"),
    "EMEA": ("de_DE", "fr_FR", "en_GB", "pl_PL"),
    "LATAM": ("pt_BR", "es_MX", "es_CO", "es_CL"),
}


def ascii_word(text: str) -> str:
    """`text` as it would be written in a mail address: "Zięcik" becomes "ziecik"."""
    text = text.replace("ł", "l").replace("Ł", "L").replace("ß", "ss").replace("ø", "o")
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", folded.lower())


def distinct(draw: Callable[[], Any], wanted: int) -> list[Any]:
    """Up to `wanted` different values of `draw`, in the order they first came up."""
    found: dict[Any, None] = {}
    for _ in range(wanted * PATIENCE):
        if len(found) == wanted:
            break
        if (value := draw()) is not None:
            found[value] = None
    return list(found)


def names(draw: Callable[[], Any], wanted: int) -> list[list[str]]:
    """Names as [as written, as in a mail address]; `draw` gives a string, or (kanji, kana, romanised)."""
    values = distinct(draw, wanted)
    pairs = ((value, ascii_word(value)) if isinstance(value, str) else (value[0], value[2].lower()) for value in values)
    return [[written, mail] for written, mail in pairs if mail]


def street(fake: Faker, locale: str) -> tuple[str, str] | None:
    """A street address cut around its house number: (before, after)."""
    if locale == "ja_JP":
        return f"{fake.town()}{fake.chome()}", f"番{fake.random_int(1, 20)}号"
    address = " ".join(fake.street_address().replace("\n", ", ").split()).replace(" ,", ",")
    found = re.match(r"(\D*)\d+(.*)", address)
    # House numbers of one to three digits replace what is cut out; "PO Box 12" and the like stay as they are.
    return (found[1], found[2]) if found and len(address) <= 48 else None


def places(fake: Faker) -> list[list[str]]:
    """Towns with one postcode each, so that a town does not change its postcode from user to user."""
    return [[city, fake.postcode()] for city in distinct(fake.city, PLACES)]


def mail_hosts(fake: Faker, country: str, last_names: list[list[str]]) -> list[str]:
    """Hosts under the reserved top-level domain `.example` (RFC 2606): mail to them reaches nobody."""
    words = distinct(lambda: word if (word := fake.domain_word()).isalpha() and len(word) > 3 else None, MAIL_HOSTS)
    # Indonesian has but one domain word of this length: family names fill up, as they do for Faker elsewhere.
    words = list(dict.fromkeys([*words, *(mail for _, mail in last_names)]))[:MAIL_HOSTS]
    return [f"{word}.{country.lower()}.example" for word in words]


def locale_pools(locale: str, region: str) -> dict[str, Any]:
    """Everything a customer of `locale` is made of."""
    fake = Faker(locale)
    fake.seed_instance(SEED)
    japanese = locale == "ja_JP"
    people = {
        gender: {
            "first": names(getattr(fake, f"first_name_{gender}{'_pair' if japanese else ''}"), FIRST_NAMES),
            "last": names(fake.last_name_pair if japanese else getattr(fake, f"last_name_{gender}"), LAST_NAMES),
        }
        for gender in ("female", "male")
    }
    country = locale[-2:]
    return {
        "region": region,
        "country": country,
        "family_name_first": japanese,
        "people": people,
        "streets": [list(pair) for pair in distinct(lambda: street(fake, locale), STREETS)],
        "places": places(fake),
        "mail_hosts": mail_hosts(fake, country, people["female"]["last"]),
    }


def pools() -> dict[str, Any]:
    """All pools; the same for the same version of Faker."""
    fake = Faker("en_US")
    fake.seed_instance(SEED)

    def colour() -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", fake.color_name())

    return {
        "faker": faker.VERSION,
        "makers": distinct(fake.last_name, MAKERS),
        "colours": distinct(colour, COLOURS),
        "locales": {name: locale_pools(name, region) for region, listed in LOCALES.items() for name in listed},
    }


def lines(value: Any, depth: int = 0) -> Iterable[str]:
    """`value` as JSON with a line per list, so that a renewed pool can be read in a diff."""
    if not isinstance(value, dict):
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return
    indent = " " * (depth + 1)
    inner = []
    for key, item in value.items():
        inner.append(f"{indent}{json.dumps(key)}: " + "".join(lines(item, depth + 1)))
    yield "{\n" + ",\n".join(inner) + "\n" + " " * depth + "}"


def main() -> None:
    """Write pools.json."""
    FILE.write_text("".join(lines(pools())) + "\n", encoding="utf-8")
    print(f"{FILE.name}: Faker {faker.VERSION}, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
