"""Claims of the topology's keys `services` and `backends`, and of a file that extends another."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmart.cluster import description
from shardmart.declare import access, data_model
from shardmart.declare.topology import TopologyError, load

ROOT = Path(__file__).parents[3]
TOPOLOGY = ROOT / "inventories" / "topology.yml"
SHOP = ROOT / "inventories" / "topologies" / "shop.yml"


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yml"
    file.write_text(f"extends: {TOPOLOGY}\n{text}")
    return file


def test_the_shop_stands_on_the_default_cluster() -> None:
    with_shop, without = load(SHOP).resolve(), load(TOPOLOGY).resolve()
    assert without.shop is None
    assert with_shop.nodes == without.nodes


def test_every_service_is_found_at_the_port_people_know_and_has_two_instances() -> None:
    shop = load(SHOP).resolve().shop
    assert shop is not None
    assert {service.name: service.port for service in shop.services} == {
        "catalogue": 3000, "order": 3001, "inventory": 3002, "payment": 3003, "notification": 3004,
        "provider": 3010, "console": 8080,
    }  # fmt: skip
    assert [one.name for one in shop.instances if one.name.startswith("order")] == ["order-1", "order-2"]


def test_services_without_a_word_are_the_whole_shop(tmp_path: Path) -> None:
    assert load(written(tmp_path, "services: {}\n")).resolve().shop == load(SHOP).resolve().shop


def test_a_shop_without_a_cache_server_has_none(tmp_path: Path) -> None:
    shop = load(written(tmp_path, "services: {}\nbackends: {cache: memory}\n")).resolve().shop
    assert shop is not None
    assert shop.cache is None


def test_a_shop_keeps_its_mail_on_this_machine_unless_it_is_told_not_to(tmp_path: Path) -> None:
    found = {}
    for text in ("{}", "{mail_port: 2525}", "{mail: none, mail_port: 3001}"):
        shop = load(written(tmp_path, f"services: {{}}\nbackends: {text}\n")).resolve().shop
        assert shop is not None
        found[text] = shop.mail.address if shop.mail in shop.processes and shop.mail else None
    assert list(found.values()) == ["127.0.0.1:3025", "127.0.0.1:2525", None]


def test_the_polyglot_topology_has_postgresql_and_reads_back_the_same() -> None:
    cluster = load(ROOT / "inventories" / "topologies" / "polyglot.yml").resolve()
    assert cluster.shop is not None
    assert cluster.shop.postgres is not None
    assert (cluster.shop.postgres.address, cluster.shop.backends.postgres_is_ours) == ("127.0.0.1:5432", True)
    assert description.parse(cluster.as_document()) == cluster


def test_a_store_on_postgresql_has_its_events_there_and_the_catalogue_stays(tmp_path: Path) -> None:
    cluster = load(ROOT / "inventories" / "topologies" / "shop-postgresql.yml").resolve()
    assert cluster.shop is not None
    assert cluster.shop.postgres is not None
    backends = cluster.shop.backends
    assert (backends.store, backends.event_log, backends.catalogue) == ("postgres", "postgres", "mongodb")
    assert description.parse(cluster.as_document()) == cluster
    both = load(written(tmp_path, "services: {}\nbackends: {store: postgres, catalogue: postgres}\n")).resolve().shop
    assert both is not None
    assert both.postgres == cluster.shop.postgres, "one server has both"


def test_a_postgresql_that_is_there_takes_no_port_of_this_machine(tmp_path: Path) -> None:
    text = "{catalogue: postgres, postgres_host: db, postgres_port: 3000, postgres_flavour: citus}"
    shop = load(written(tmp_path, f"services: {{}}\nbackends: {text}\n")).resolve().shop
    assert shop is not None
    assert shop.postgres is not None
    assert (shop.postgres.address, shop.backends.postgres_flavour) == ("db:3000", "citus")
    assert not shop.backends.postgres_is_ours


def test_a_store_under_patroni_has_three_servers_and_three_members_of_etcd_and_reads_back_the_same() -> None:
    cluster = load(ROOT / "inventories" / "topologies" / "shop-patroni.yml").resolve()
    assert cluster.shop is not None
    assert cluster.shop.postgres is None
    assert [one.address for one in cluster.shop.postgres_servers] == [f"127.0.0.1:{5432 + n}" for n in range(3)]
    assert [one.address for one in cluster.shop.etcd] == [f"127.0.0.1:{2379 + n}" for n in range(3)]
    assert description.parse(cluster.as_document()) == cluster


@pytest.mark.parametrize(
    ("text", "carts"),
    [
        ("services: {}\n", "carts"),
        ("services: {}\nrings: []\n", "mongodb"),
        ("services: {}\nrings: [{name: others, nodes: 2}]\n", "mongodb"),
        ("services: {}\nrings: [{name: others, nodes: 2}]\nbackends: {carts: others}\n", "others"),
        ("services: {}\nbackends: {carts: mongodb}\n", "mongodb"),
    ],
)
def test_carts_are_on_the_ring_where_there_is_one_and_in_mongodb_otherwise(
    tmp_path: Path, text: str, carts: str
) -> None:
    shop = load(written(tmp_path, text)).resolve().shop
    assert shop is not None
    assert shop.backends.carts == carts


def test_the_topology_with_kafka_has_three_brokers_and_reads_back_the_same() -> None:
    cluster = load(ROOT / "inventories" / "topologies" / "shop-kafka.yml").resolve()
    assert cluster.shop is not None
    assert [broker.address for broker in cluster.shop.kafka] == [f"127.0.0.1:{port}" for port in (9092, 9093, 9094)]
    assert cluster.shop.backends.event_log == "kafka"
    assert {"kafka-1", "kafka-2", "kafka-3"} <= {one.name for one in cluster.shop.processes}
    assert description.parse(cluster.as_document()) == cluster


@pytest.mark.parametrize(("replicas", "nodes"), [(0, 3), (1, 6)])
def test_a_cache_may_be_a_cluster_of_three_nodes_with_a_replica_each(tmp_path: Path, replicas: int, nodes: int) -> None:
    text = f"services: {{}}\nbackends: {{cache: redis-cluster, cache_replicas: {replicas}, cache_port: 7000}}\n"
    cluster = load(written(tmp_path, text)).resolve()
    assert cluster.shop is not None
    assert [(one.name, one.port) for one in cluster.shop.caches] == [(f"cache-{n + 1}", 7000 + n) for n in range(nodes)]
    assert set(cluster.shop.caches) <= set(cluster.shop.processes)
    assert description.parse(cluster.as_document()) == cluster


def test_a_description_with_the_shop_reads_back_the_same() -> None:
    cluster = load(SHOP).resolve()
    assert description.parse(cluster.as_document()) == cluster


def test_a_description_of_version_2_is_still_read() -> None:
    document = load(TOPOLOGY).resolve().as_document() | {"version": 2}
    del document["shop"]
    assert description.parse(document) == load(TOPOLOGY).resolve()


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("services: {}\n", False),
        ("tls: {mode: requireTLS}\nservices: {}\n", True),
        ("tls: {mode: requireTLS}\nservices: {}\nbackends: {tls: false}\n", False),
        ("services: {}\nbackends: {tls: false}\n", False),
    ],
)
def test_backends_speak_tls_where_the_cluster_does_unless_it_is_said(tmp_path: Path, text: str, spoken: bool) -> None:
    shop = load(written(tmp_path, text)).resolve().shop
    assert shop is not None
    assert shop.backends.tls is spoken


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {orders: {}}\n", "services.orders: unknown key, there are catalogue, order, inventory, paym"),
        ("services: {order: {instances: 0}}\n", "services.order.instances: Input should be greater than or equal to 1"),
        ("services: {order: {port: 3000}}\n", "services.catalogue.port and services.order.port: port 3000 is used"),
        ("services: {order: {port: 27017}}\n", "routers.port and services.order.port: port 27017 is used twice"),
        ("services:\n", "services: expected a mapping of services; `services: {}` is every one"),
        ("backends: {cache: memory}\n", "backends: there are no `services` that would use them: add `services: {}`"),
        (
            "services: {}\nbackends: {catalogue: postgres, cache: memory}\n",
            "backends: `cache: memory` cannot be with `catalogue: postgres`, which reads stock from Redis: say `ca",
        ),
        (
            "services: {}\nbackends: {catalogue: postgres, postgres_flavour: citus}\n",
            "backends: `postgres_flavour: citus` needs `postgres_host`, the address of such a server",
        ),
        (
            "services: {}\nbackends: {postgres_port: 5433}\n",
            "backends: `postgres_port` has no use while `catalogue` and `store` are mongodb: leave it out, or say `cat",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_nodes: 2}\n",
            "backends.postgres_nodes: Input should be 1 or 3, found 2",
        ),
        (
            "services: {}\nbackends: {store: postgres, catalogue: postgres, postgres_nodes: 3}\n",
            "backends: `postgres_nodes: 3` is for the store alone: say `store: postgres` and `catalogue: mongodb`",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_nodes: 3, postgres_host: db}\n",
            "backends: `postgres_nodes: 3` has no use with `postgres_host`, a server that is there: leave one of them",
        ),
        (
            "services: {}\nbackends: {store: postgres, etcd_port: 2400}\n",
            "backends: `etcd_port` has no use with `postgres_nodes: 1`: leave it out, or say 3",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_entrance_port: 5439}\n",
            "backends: `postgres_entrance_port` has no use with `postgres_nodes: 1`: leave it out, or say 3",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_nodes: 3, postgres_entrance_port: 5443}\n",
            "backends.postgres_entrance_port and backends.postgres_port: port 5443 is used twice",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_nodes: 3, etcd_port: 5434}\n",
            "backends.postgres_port and backends.etcd_port: port 5434 is used twice",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_nodes: 3, postgres_port: 2990}\n",
            "services.catalogue.port and backends.postgres_port: port 3000 is used twice",
        ),
        (
            "services: {}\nbackends: {catalogue: postgres, postgres_port: 3000}\n",
            "services.catalogue.port and backends.postgres_port: port 3000 is used twice",
        ),
        (
            "services: {}\nbackends: {carts: nowhere}\n",
            "backends.carts: there is no ring 'nowhere' in `rings`, it may be carts, mongodb",
        ),
        (
            "services: {}\nbackends: {cache_replicas: 1}\n",
            "backends: `cache_replicas` has no use with `cache: redis`: leave it out, or say `cache: redis-cluster`",
        ),
        (
            "services: {}\nbackends: {cache: redis-cluster, cache_port: 2990}\n",
            "services.catalogue.port and backends.cache_port: port 3000 is used twice",
        ),
        (
            "services: {}\nbackends: {catalogue: postgres, cache: redis-cluster}\n",
            "backends: `cache: redis-cluster` cannot be with `catalogue: postgres`, which reads stock from Redis: say",
        ),
        (
            "services: {}\nbackends: {kafka_brokers: 3}\n",
            "backends: `kafka_brokers` has no use with `event_log: mongodb`: leave it out, or say `event_log: kafka`",
        ),
        (
            "services: {}\nbackends: {event_log: kafka, kafka_brokers: 2}\n",
            "backends.kafka_brokers: Input should be 1 or 3, found 2",
        ),
        (
            "services: {}\nbackends: {event_log: kafka, kafka_port: 6369}\n",
            "backends.cache_port and backends.kafka_port: port 6379 is used twice",
        ),
        (
            "services: {}\nbackends: {mail_port: 3001}\n",
            "services.order.port and backends.mail_port: port 3001 is used twice",
        ),
        (
            "services: {}\nbackends: {tls: true}\n",
            "backends.tls: there is no certificate while `tls.mode` is disabled: leave it out, or say `tls: {mode: req",
        ),
        (
            "tls: {mode: requireTLS}\nservices: {}\nbackends: {cache: redis-cluster, cache_replicas: 1}\n",
            "backends.cache_replicas: a replica of the cache copies without TLS, which the cluster speaks: say 0, or ",
        ),
        (
            "services: {}\nbackends: {store: excel}\n",
            "backends.store: Input should be 'mongodb' or 'postgres', found 'excel'",
        ),
        (
            "services: {}\nbackends: {store: postgres, event_log: kafka}\n",
            "backends: `event_log: kafka` has no use with `store: postgres`, where events are followed in the store: l",
        ),
        (
            "services: {}\nbackends: {store: postgres, postgres_flavour: cockroach}\n",
            "backends: `postgres_flavour: cockroach` needs `postgres_host`",
        ),
        (
            "services: {}\nbackends: {catalogue: postgres, postgres_host: db, postgres_flavour: cockroach}\n",
            "backends: `postgres_flavour: cockroach` cannot be with `catalogue: postgres`, whose flavours are plain an",
        ),
    ],
)
def test_a_wrong_shop_is_refused_by_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        load(written(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere.yml\n", "nowhere.yml: cannot be read"),
        ("extends: [a]\n", "extends: expected the name of a topology file, found ['a']"),
        (f"extends: {SHOP}\n", "extends another one itself"),
    ],
)
def test_a_file_that_cannot_be_extended_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yml").write_text(text)
    with pytest.raises(TopologyError) as caught:
        load(tmp_path / "mine.yml")
    assert message in str(caught.value)


def test_users_and_collections_of_the_shop_are_there_only_with_services() -> None:
    without, with_shop = data_model.load(), data_model.load(shop=True)
    assert [c.name for c in without.collections] == ["users", "products", "orders"]
    assert {"events", "stock", "payments", "lanes"} <= {c.name for c in with_shop.collections}
    names = {user.name for user in access.load("ecommerce").users}
    assert {user.name for user in access.load("ecommerce", shop=True).users} - names == {
        "shop-order", "shop-inventory", "shop-payment", "shop-notification", "shop-catalogue", "shop-ledger"
    }  # fmt: skip


def test_no_service_may_write_what_another_one_owns() -> None:
    writers: dict[str, set[str]] = {}
    for user in access.load("ecommerce", shop=True).users:
        for privilege in user.privileges:
            if user.name.startswith("shop-") and {"insert", "update", "remove"} & set(privilege.actions):
                writers.setdefault(privilege.resource["collection"], set()).add(user.name)
    shared = {"events", "parked_events", "lanes", "idempotency_keys"}
    assert {name: users for name, users in writers.items() if name not in shared} == {
        "orders": {"shop-order"},
        "carts": {"shop-order"},
        "stock": {"shop-inventory"},
        "reservations": {"shop-inventory"},
        "payments": {"shop-payment"},
        "notifications": {"shop-notification"},
        "productmetas": {"shop-catalogue"},
    }
