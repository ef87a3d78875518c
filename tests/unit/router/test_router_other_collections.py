"""Claims of names_another: a pipeline that reads a second collection is known as one, however deep the stage stands."""

from __future__ import annotations

from typing import Any

import pytest

from shardmart.router.operations.several_shards import names_another

LOOKUP = {"$lookup": {"from": "orders", "localField": "_id", "foreignField": "user_id", "as": "orders"}}


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ([], False),
        ([{"$match": {"from": "$lookup"}}, {"$group": {"_id": "$lookup"}}], False),
        ([{"$match": {}}, LOOKUP], True),
        ([{"$unionWith": "orders"}], True),
        ([{"$facet": {"a": [{"$match": {}}], "b": [LOOKUP]}}], True),
        ([{"$facet": {"a": [{"$match": {}}]}}], False),
        ([{"$facet": 1}], False),
        ([{"$facet": {"a": 1}}], False),
    ],
)
def test_a_second_collection_is_seen(pipeline: list[dict[str, Any]], expected: bool) -> None:
    assert names_another(pipeline) is expected
