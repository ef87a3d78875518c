"""What a description says about TLS."""

from __future__ import annotations

import pytest

from shardmart.cluster.description import requires_tls, speaks_tls


@pytest.mark.parametrize(
    ("mode", "speaks", "requires"),
    [("disabled", False, False), ("allowTLS", True, False), ("preferTLS", True, False), ("requireTLS", True, True)],
)
def test_clients_speak_tls_wherever_servers_answer_it(mode: str, speaks: bool, requires: bool) -> None:
    cluster = {"tls": {"mode": mode}}
    assert (speaks_tls(cluster), requires_tls(cluster)) == (speaks, requires)


def test_description_without_a_word_on_tls_is_plain() -> None:
    assert not speaks_tls({})
    assert not requires_tls({})
