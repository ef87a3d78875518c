"""Claims of the data model: regions and zones have one home, and a model that contradicts itself is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardmart.declare import data_model
from shardmart.loader.generation import pools

MODEL = data_model.load()


def test_each_region_lives_in_one_zone() -> None:
    assert MODEL.zones == ("APJ", "EMEA", "LATAM")
    assert {zone: MODEL.regions_of(zone) for zone in MODEL.zones} == {
        "APJ": ("APJ",), "EMEA": ("EMEA",), "LATAM": ("LATAM",)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["users", "orders"])
def test_validators_allow_the_regions_of_the_model(name: str) -> None:
    validator = MODEL.collection(name).validator
    assert validator is not None
    assert validator["$jsonSchema"]["properties"]["region"]["enum"] == list(MODEL.regions)


def test_the_loader_draws_customers_for_every_region() -> None:
    assert set(pools.load().locales) == set(MODEL.regions)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("schema: products", "schema: produce", "data_model.yml: collections[1].schema: there is no "),
        (
            "- {zone: EMEA, min: EMEA, max: LATAM}",
            "- {zone: EMEA, min: EMEA, max: F}",
            None,
        ),
        (
            "regions: [APJ, EMEA, LATAM]",
            "regions: [APJ, EMEA, LATAM, MEA]",
            None,
        ),
        (
            "      - {zone: LATAM, min: LATAM, max: NA}\n",
            "",
            "data_model.yml: collections[0].zone_ranges: region LATAM lies in no zone",
        ),
        (
            "max: EMEA}",
            "max: F}",
            "data_model.yml: collections[0].zone_ranges: region EMEA lies in APJ and EMEA",
        ),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    tmp_path: Path, before: str, after: str, message: str | None
) -> None:
    shutil.copytree(data_model.DEFAULT_FILE.parent / "schemas", tmp_path / "schemas")
    text = data_model.DEFAULT_FILE.read_text()
    assert text.count(before) == 1
    file = tmp_path / "data_model.yml"
    file.write_text(text.replace(before, after))
    if message is None:  # every region has a home: a gap where nobody lives is right
        data_model.load(file)
        return
    with pytest.raises(data_model.DataModelError) as caught:
        data_model.load(file)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
