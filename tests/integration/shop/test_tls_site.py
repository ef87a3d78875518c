"""`site.yml` of a cluster with TLS and the shop beside it: its PostgreSQL and its cache speak TLS and nothing else, an
order is confirmed, the ledger is clean, and what would switch TLS under a shop that runs is refused."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from shardmart.cluster.shop import Shop
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.shop import settings
from shardmart.shop.adapters.postgres.connection import encryption
from tests.integration.shop.store.test_postgresql_site import must_be_clean, must_survive
from tests.support.certified import shown
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared, must_confirm_an_order
from tests.support.shops import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("mvn") is None, reason="PostgreSQL with TLS is fetched by Maven"),
]

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.write(**declared("postgres_port", store="postgres", catalogue="postgres"), tls={"mode": "requireTLS"})
    with postgres_home("tls"):
        yield made
        gone = made.play("playbooks/destroy.yml", "-e", "destroy_data=true")
        assert gone.code == 0, gone.output


def shop_of(site: Site) -> Shop:
    found = site.cluster().description.shop
    assert found
    return found


def told(site: Site, service: str) -> settings.Settings:
    return settings.load(ShopFiles(site.state).configuration(f"{service}-1.json"))


def must_refuse_plain(site: Site) -> None:
    """What serves the shop's data answers nobody without TLS, though they know the password."""
    shop, store = shop_of(site), told(site, "order").store
    assert store
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry for host .* no encryption"):
        psycopg.connect(
            host=store.host, port=store.port, user=store.user, password=store.password, dbname="shop", sslmode="disable"
        )
    assert shop.cache
    password = (site.state / "secrets" / "shop-cache.password").read_text().strip()
    with (
        redis.Redis(host=shop.cache.host, port=shop.cache.port, username="shop", password=password) as plain,
        pytest.raises((redis.ConnectionError, redis.TimeoutError)),
    ):
        plain.ping()


def must_serve_the_clusters_certificate(site: Site) -> None:
    shop, authority = shop_of(site), site.state / "tls" / "ca.pem"
    assert shop.cache
    assert shop.postgres
    cache, store = shop.cache.port, shop.postgres.port
    made = ssl.PEM_cert_to_DER_cert(CERTIFICATE.findall((site.state / "tls" / "server.pem").read_text())[0])
    wait_until(lambda: shown(cache, authority) == made, "the cache to serve it", 60)
    wait_until(lambda: shown(store, authority, postgres=True) == made, "PostgreSQL to serve it", 60)


def encrypted(site: Site) -> set[tuple[str, bool]]:
    """Who is connected to PostgreSQL, and whether by TLS."""
    store = told(site, "order").store
    assert store
    with psycopg.connect(
        host=store.host, port=store.port, user="postgres", dbname="shop", **encryption(store),
        password=(site.state / "secrets" / "shop-postgres.password").read_text().strip(),
    ) as connection:  # fmt: skip
        query = (
            """SELECT usename, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"""
        )
        return {(user, speaks) for user, speaks in connection.execute(query).fetchall()}


def looked(site: Site) -> dict[str, Any]:
    config = ShopFiles(site.state).configuration("catalogue-1.json")
    secrets = str(site.state / "secrets")
    done = site.shardmart("shop", "sources", "--json", "--config", str(config), "--secrets", secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    return {one["source"]: one for one in json.loads(done.stdout)}


def test_the_shop_speaks_tls_with_all_that_keeps_its_data(site: Site, tmp_path: Path) -> None:
    site.must_converge_from_nothing()
    must_confirm_an_order(site)
    must_refuse_plain(site)
    must_serve_the_clusters_certificate(site)
    found = encrypted(site)
    assert {user for user, _ in found} >= {"shop_order", "shop_inventory", "shop_payment", "shop_notification"}
    assert [user for user, speaks in found if not speaks] == []

    sources = looked(site)
    assert [one["problem"] for one in sources.values()] == [None] * 3
    if shutil.which("psql"):
        line = sources["products"]["command"]
        psql = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
        assert psql.returncode == 0, psql.stderr
        assert sources["products"]["example"]["name"] in psql.stdout
    status = json.loads(site.shardmart("status", "--json").stdout)
    assert status["problems"] == []

    must_be_clean(site, tmp_path / "journal")
    must_survive(site, "kill-store-primary")
    wanted = {key: value for key, value in site.document["backends"].items() if key != "catalogue"}
    site.write(backends=wanted)
    mongodb = site.play("site.yml")
    assert mongodb.code == 0, mongodb.output
    must_survive(site, "kill-cache")  # whose stocks the catalogue then has from the store

    site.write(backends=wanted | {"tls": False})
    for playbook in ("site.yml", "playbooks/shop.yml", "playbooks/rotate-certificates.yml"):
        refused = site.play(playbook)
        assert refused.code != 0, playbook
        assert "backends.tls: cache-1 runs, of a shop with TLS to PostgreSQL and the cache" in refused.output
    site.write(backends=wanted)
    must_confirm_an_order(site)

    before = shown(shop_of(site).caches[0].port, site.state / "tls" / "ca.pem")
    renewed = site.play("playbooks/rotate-certificates.yml")
    assert renewed.code == 0, renewed.output
    must_serve_the_clusters_certificate(site)
    assert shown(shop_of(site).caches[0].port, site.state / "tls" / "ca.pem") != before
    must_confirm_an_order(site)
    again = site.play("site.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output

    down = site.play("playbooks/destroy.yml")
    assert down.code == 0, down.output
    site.write(backends=wanted | {"tls": False})
    plain = site.play("site.yml")
    assert plain.code == 0, plain.output
    must_confirm_an_order(site)
    store = told(site, "order").store
    assert store
    assert (store.sslmode, store.ca_file) == ("prefer", None), "it was asked for"
