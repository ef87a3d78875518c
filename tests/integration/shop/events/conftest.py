"""The engines of the event log, each beside one small cluster that is kept for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import EmbeddedCluster
from tests.support.kafkas import RunningKafka, running_kafka


@pytest.fixture(scope="module")
def kafka(cluster: EmbeddedCluster) -> Iterator[RunningKafka]:
    with running_kafka(cluster) as running:
        yield running
