"""Claims of what the shop's processes are told: settings that the services accept, and no secret that is not theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shardmart.cluster.host.files import write_whole
from shardmart.cluster.shop import Instance
from shardmart.declare import access
from shardmart.declare.topology import load
from shardmart.platforms.embedded_shop import configuration, envoy, processes
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.shop_nodes import described
from shardmart.shop import settings
from shardmart.shop.adapters.postgres.connection import encryption
from shardmart.shop.mail import server as mail

CLUSTER = load(Path(__file__).parents[3] / "inventories" / "topologies" / "shop.yml").resolve()
SHOP = CLUSTER.shop
assert SHOP is not None
SERVICES = [service.name for service in SHOP.services]
SECRETS = [*access.load("ecommerce", shop=True).as_variable("ecommerce")["passwords"], "shop-mail.password"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    for name in SECRETS:
        (tmp_path / "secrets" / name).write_text(f"secret-of-{name.removesuffix('.password')}".ljust(40, "x"))
    return tmp_path


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_accepts_the_settings_made_for_it(state: Path, service: str) -> None:
    file = state / "settings.json"
    write_whole(file, configuration.settings(service, CLUSTER, state, data=state / "data"))
    read = settings.load(file)
    assert (read.mongodb is not None) == (service in configuration.DATABASE_USERS)
    assert read.urls.payment == "http://127.0.0.1:3003"


@pytest.mark.parametrize("service", SERVICES)
def test_who_shows_or_orders_carts_is_told_of_the_ring_and_nobody_else(state: Path, service: str) -> None:
    made = json.loads(configuration.settings(service, CLUSTER, state, data=state / "data"))
    expected = str(state / "rings" / "carts" / "settings.json") if service in ("order", "catalogue") else None
    assert made.get("ring_settings") == expected
    assert SHOP is not None
    without = replace(CLUSTER, shop=replace(SHOP, backends=replace(SHOP.backends, carts="mongodb")))
    assert "ring_settings" not in json.loads(configuration.settings(service, without, state, data=state / "data"))


def test_each_service_holds_the_secrets_it_uses_and_no_others(state: Path) -> None:
    held = {}
    for service in SERVICES:
        text = configuration.settings(service, CLUSTER, state, data=state / "data")
        held[service] = {n.removesuffix(".password") for n in SECRETS if f"secret-of-{n[:-9]}" in text}
    assert held == {
        "catalogue": {"shop-tokens", "shop-catalogue", "shop-cache"},
        "order": {"shop-tokens", "shop-order"},
        "inventory": {"shop-tokens", "shop-inventory", "shop-cache"},
        "payment": {"shop-tokens", "shop-payment", "shop-provider", "shop-webhook"},
        "notification": {"shop-tokens", "shop-notification", "shop-cache", "shop-mail"},
        "provider": {"shop-tokens", "shop-provider", "shop-webhook"},
        "console": {"shop-tokens", "monitor"},
    }


def test_who_tells_customers_logs_in_to_the_mail_server_and_commands_know_where_it_keeps_what_it_took(
    state: Path,
) -> None:
    assert SHOP is not None
    file = state / "mail-1.json"
    write_whole(file, configuration.mail_configuration(SHOP, configuration.Secrets(state / "secrets"), state / "kept"))
    server = settings.load_part(file, mail.MailServer)
    assert (server.host, server.port, server.mailbox) == ("127.0.0.1", 3025, state / "kept")
    told = {}
    for shop in (SHOP, replace(SHOP, mail=None)):
        for service in SERVICES:
            write_whole(file, configuration.settings(service, replace(CLUSTER, shop=shop), state, data=state / "data"))
            told[service, shop.mail is not None] = settings.load(file)
    smtp = told["notification", True].smtp
    assert smtp is not None
    assert (smtp.host, smtp.port, smtp.user, smtp.password) == (server.host, server.port, server.user, server.password)
    assert [key for key, one in told.items() if one.smtp] == [("notification", True)]
    assert {key: one.mailbox for key, one in told.items() if one.mailbox} == {
        ("order", True): state / "shop" / "data" / "mail-1"
    }


@pytest.mark.parametrize(("host", "sslmode"), [("127.0.0.1", "prefer"), ("db.example", "require")])
def test_the_catalogue_alone_is_told_of_postgresql(state: Path, host: str, sslmode: str) -> None:
    assert SHOP is not None
    (state / "secrets" / "shop-catalogue-postgres.password").write_text("p" * 40)
    shop = replace(
        SHOP, postgres=Instance("shop-postgres", host, 5432), backends=replace(SHOP.backends, catalogue="postgres")
    )
    read = {}
    for service in SERVICES:
        file = state / f"{service}.json"
        write_whole(file, configuration.settings(service, replace(CLUSTER, shop=shop), state, data=state / "data"))
        read[service] = settings.load(file)
    assert [service for service, one in read.items() if one.postgres] == ["catalogue"]
    told = read["catalogue"].postgres
    assert told is not None
    assert (told.host, told.port, told.password, told.sslmode) == (host, 5432, "p" * 40, sslmode)
    assert read["catalogue"].redis_url, "stock comes from Redis"


def test_of_a_store_on_postgresql_each_service_has_its_own_user_and_only_who_needs_it_the_cluster(state: Path) -> None:
    cluster = load(Path(__file__).parents[3] / "inventories" / "topologies" / "shop-postgresql.yml").resolve()
    for service in configuration.EVENT_SERVICES:
        (state / "secrets" / f"shop-postgres-{service}.password").write_text(f"of-{service}".ljust(40, "x"))
    told = {}
    for service in SERVICES:
        file = state / f"{service}.json"
        write_whole(file, configuration.settings(service, cluster, state, data=state / "data"))
        told[service] = settings.load(file)
    stores = {service: one.store for service, one in told.items() if one.store}
    assert stores.keys() == set(configuration.EVENT_SERVICES)
    for service, store in stores.items():
        assert (store.user, store.password) == (f"shop_{service}", f"of-{service}".ljust(40, "x"))
    assert [service for service, one in told.items() if one.mongodb] == ["catalogue", "order"]


def test_where_the_cluster_speaks_tls_services_check_what_postgresql_shows_unless_that_is_switched_off(
    state: Path,
) -> None:
    folder = Path(__file__).parents[3] / "inventories" / "topologies"
    cluster = load(folder / "shop-postgresql.yml").resolve()
    assert cluster.shop is not None
    (state / "secrets" / "shop-postgres-order.password").write_text("x" * 40)

    def told(*, tls: bool, ours: bool = True) -> settings.Relational:
        assert cluster.shop is not None
        backends = replace(cluster.shop.backends, tls=tls, postgres_is_ours=ours)
        there = replace(cluster, shop=replace(cluster.shop, backends=backends))
        file = state / "order.json"
        write_whole(file, configuration.settings("order", there, state, data=state / "data"))
        store = settings.load(file).store
        assert store is not None
        return store

    spoken, switched_off, foreign = told(tls=True), told(tls=False), told(tls=True, ours=False)
    assert (spoken.sslmode, spoken.ca_file) == ("verify-full", state / "tls" / "ca.pem")
    assert (switched_off.sslmode, switched_off.ca_file) == ("prefer", None)
    assert (foreign.sslmode, foreign.ca_file) == ("require", None), "its authority is not ours"
    assert encryption(spoken)["sslrootcert"] == str(state / "tls" / "ca.pem")


def test_of_a_store_under_patroni_a_service_knows_every_server(state: Path) -> None:
    cluster = load(Path(__file__).parents[3] / "inventories" / "topologies" / "shop-patroni.yml").resolve()
    (state / "secrets" / "shop-postgres-order.password").write_text("x" * 40)
    file = state / "order.json"
    write_whole(file, configuration.settings("order", cluster, state, data=state / "data"))
    store = settings.load(file).store
    assert store is not None
    assert (store.host, store.port) == ("127.0.0.1,127.0.0.1,127.0.0.1", "5432,5433,5434")
    assert store.sslmode == "prefer"


def test_a_cache_that_stock_is_read_from_keeps_it_and_one_that_is_a_copy_does_not(state: Path) -> None:
    assert SHOP is not None
    secrets = configuration.Secrets(state / "secrets")
    (node,) = SHOP.caches
    copy = configuration.cache_configuration(node, SHOP, secrets, state).splitlines()
    source = replace(SHOP, backends=replace(SHOP.backends, catalogue="postgres"))
    kept = configuration.cache_configuration(node, source, secrets, state).splitlines()
    assert {"appendonly no", "maxmemory-policy allkeys-lru"} <= set(copy)
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(kept)


def test_a_cache_behind_tls_has_no_port_for_clients_and_services_check_whom_they_reach(state: Path) -> None:
    cluster = load(Path(__file__).parents[3] / "inventories" / "topologies" / "shop-redis-cluster.yml").resolve()
    assert cluster.shop is not None
    (state / "secrets" / "shop-cache-cluster.password").write_text("x" * 40)
    (state / "tls").mkdir()
    (state / "tls" / "server.pem").touch()
    spoken = replace(cluster.shop, backends=replace(cluster.shop.backends, tls=True))
    file = state / "order.json"
    write_whole(file, configuration.settings("catalogue", replace(cluster, shop=spoken), state, data=state / "data"))
    url = settings.load(file).redis_url
    assert url is not None
    assert url.startswith("rediss://shop:")
    assert url.endswith(f"@127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381/0?ssl_ca_certs={state}/tls/ca.pem")

    files = ShopFiles(state)
    servers = processes.cache_processes(spoken, files, "valkey-server")
    for node, server in zip(spoken.caches, servers, strict=True):
        lines = (server.configuration or "").splitlines()
        assert {"port 0", "unixsocketperm 600", f"cluster-announce-port {node.port}"} <= set(lines)
        assert server.unix_socket == files.socket(node.name)
    listeners = json.loads(processes.cache_tls_process(spoken, files, "envoy").configuration or "")["static_resources"]
    assert [one["address"]["socket_address"]["port_value"] for one in listeners["listeners"]] == [6379, 6380, 6381]
    assert all("transport_socket" in chain for one in listeners["listeners"] for chain in one["filter_chains"])
    assert [node.group for node in described(replace(cluster, shop=spoken)) if "cache" in node.name] == [
        *("cache", "cache", "cache"),
        "tls-cache",
    ], "what is said of the cache means its servers"
    assert cluster.shop.cache_tls is None


def test_of_a_cache_that_is_a_cluster_services_know_every_node_and_not_what_forms_it(state: Path) -> None:
    cluster = load(Path(__file__).parents[3] / "inventories" / "topologies" / "shop-redis-cluster.yml").resolve()
    assert cluster.shop is not None
    secret = "forms-the-cluster".ljust(40, "x")
    (state / "secrets" / "shop-cache-cluster.password").write_text(secret)
    for service in SERVICES:
        text = configuration.settings(service, cluster, state, data=state / "data")
        assert secret not in text
        read = json.loads(text)
        if service in configuration.CACHE_READERS:
            assert read["cache"] == "redis-cluster"
            assert read["redis_url"].endswith("@127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381/0")
        else:
            assert "redis_url" not in read
    secrets = configuration.Secrets(state / "secrets")
    ports = []
    for node in cluster.shop.caches:
        lines = configuration.cache_configuration(node, cluster.shop, secrets, state).splitlines()
        assert {"cluster-enabled yes", "cluster-require-full-coverage no", "bind 127.0.0.1"} <= set(lines)
        ports.append([line.split()[1] for line in lines if line.startswith(("port ", "cluster-port "))])
    assert ports == [["6379", "6389"], ["6380", "6390"], ["6381", "6391"]]


def test_only_what_reads_may_be_sent_twice() -> None:
    assert SHOP is not None
    listeners = json.loads(envoy.files(SHOP, Path("/c"), Path("/l"))[envoy.LISTENERS])["resources"]
    assert [one["name"] for one in listeners] == list(SERVICES[:5])
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        routes = manager["route_config"]["virtual_hosts"][0]["routes"]
        for route in routes:
            if "reset" in route["route"]["retry_policy"]["retry_on"].split(","):
                assert route["match"]["headers"][0]["string_match"]["safe_regex"]["regex"] == "GET|HEAD|OPTIONS"


def test_an_instance_that_was_brought_back_is_not_out(tmp_path: Path) -> None:
    def event(port: int, kind: str) -> str:
        host = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return json.dumps({"host": host, kind: {}}) + "\n"

    log = tmp_path / "health-checks.log"
    assert envoy.taken_out(log) == set()
    log.write_text(
        event(1, "eject_unhealthy_event") + event(2, "eject_unhealthy_event") + event(1, "add_healthy_event") + '{"ho'
    )
    assert envoy.taken_out(log) == {("127.0.0.1", 2)}
