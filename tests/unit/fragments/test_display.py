"""Claims of what people see of the nodes."""

from __future__ import annotations

import pytest

from shardmart.fragments import display


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1:5501", "127.0.0.1:5501"),
        ("shop-fragments-apj.shop.svc.cluster.local:5432", "shop-fragments-apj:5432"),
        ("::1:5501", "::1:5501"),
        ("localhost:5501", "localhost:5501"),
    ],
)
def test_an_address_is_shown_without_the_domain_that_all_share(address: str, shown: str) -> None:
    assert display.short(address) == shown
