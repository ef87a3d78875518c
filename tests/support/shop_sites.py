"""A shop of one instance of each service on free ports, for sites of tests, and an order on it."""

from __future__ import annotations

import json
from typing import Any

from shardmart.cluster.shop import BALANCED
from shardmart.platforms.embedded_shop.files import ShopFiles
from tests.support.clusters import free_ports
from tests.support.plays import Site


def declared(*ports_of: str, spare: int = 0, **backends: str) -> dict[str, Any]:
    """The topology's `services` and `backends`, with a free port for the cache and each key of `ports_of`.

    One instance of each, so that a test needs no more of the machine than it must.  `spare` ports behind the last one
    are free, too.  A mail server there is where `mail_port` is among the keys.
    """
    keys = ("cache_port", *ports_of)
    backends.setdefault("mail", "server" if "mail_port" in keys else "none")
    ports = iter(free_ports(2 * len(BALANCED) + 2 + len(keys) + spare))
    services: dict[str, Any] = {
        name: {"port": next(ports), "instances": 1, "instances_from": next(ports)} for name in BALANCED
    }
    services |= {"provider": {"port": next(ports)}, "console": {"port": next(ports)}}
    return {"services": services, "backends": {**backends, **{key: next(ports) for key in keys}}}


def must_confirm_an_order(site: Site) -> None:
    """Place an order and follow it until its customer was told."""
    config = str(ShopFiles(site.state).configuration("order-1.json"))
    done = site.shardmart("shop", "order", "--json", "--wait", "120", "--config", config, timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notification"] == "sent"
