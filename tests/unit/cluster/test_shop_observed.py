"""What is said of the shop's neighbours that cannot be asked, or do not answer."""

from __future__ import annotations

from shardmart.cluster.observe import shop as observe
from shardmart.cluster.shop import Backends, Instance, Shop
from tests.support.clusters import free_ports


def test_a_cache_whose_authority_nobody_here_knows_is_not_called_down() -> None:
    (port,) = free_ports(1)
    shop = Shop((), Backends(cache_tls=True), cache=Instance("cache-1", "127.0.0.1", port))
    told = observe.gather(shop)
    assert told["cache"]["state"] == "NOT READY"
    assert told["problems"] == ["cache-1 is NOT READY: nobody here knows its authority; answers come from the store"]


def test_an_entrance_at_which_nobody_listens_is_told() -> None:
    (port,) = free_ports(1)
    (problem,) = observe.gather(Shop((), postgres_entrance=Instance("shop-postgres", "127.0.0.1", port)))["problems"]
    assert problem.startswith(f"the one address of the store, 127.0.0.1:{port}, is DOWN: ")
