"""The shop on Kubernetes: the values of helm/shop, and what the cluster's chart has to know of it.

The shop is a release of its own in the cluster's namespace (docs/decisions/111), because it mounts the users' passwords
that the cluster's chart has.  Nothing here talks to a cluster.
"""

from __future__ import annotations

from typing import Any

from ..cluster.shop import BALANCED, SINGLE
from . import data_model, ring_chart
from .release import PORT, SHOP_SUFFIX
from .services import MONGODB, REDIS_CLUSTER, Backends
from .topology import Topology, TopologyError

ROUTERS = "mongos"
"""What the cluster's chart calls its routers."""
LAPTOP_CONSOLES = 1
LAPTOP_POD: dict[str, Any] = {
    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    # On a machine that does much else a slow answer is no reason to take a pod out, and nodes learn late who leaves.
    "readinessProbe": {"timeoutSeconds": 10, "failureThreshold": 10},
    "drainSeconds": 10,
    "terminationGracePeriodSeconds": 60,
}
LAPTOP_BROKER: dict[str, Any] = {
    "resources": {"requests": {"cpu": "10m", "memory": "320Mi"}},
    "storage": {"size": "1Gi"},
    # The first compiler alone, as on the embedded platform: it is started more often than it is busy.
    "javaOptions": ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
}
LAPTOP_POSTGRES: dict[str, Any] = {
    "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}},
    "storage": {"size": "1Gi"},
}


def in_cluster_chart(topology: Topology) -> dict[str, Any]:
    """The key `shop` of the cluster's chart; nothing for a topology without services.  TopologyError."""
    if topology.services is None:
        return {}
    _refuse(topology)
    ports = {name: topology.services.port(name) for name in (*BALANCED, *SINGLE)}
    backends = topology.backends
    kafka = {"brokers": backends.kafka_brokers if backends.event_log == "kafka" else 0, "port": backends.kafka_port}
    shop = {"enabled": True, "name": "", "ports": ports, "cache": backends.cache == "redis", "kafka": kafka}
    tls = _speaks_tls(topology)
    return {"shop": shop | {"cacheTls": tls, "postgres": _postgres(backends) | {"tls": tls}}}


def shop_values(topology: Topology, cluster: str, cluster_domain: str = "cluster.local") -> dict[str, Any]:
    """The values of helm/shop for the cluster's release `cluster`.  TopologyError for what pods cannot have.

    Where the topology has a ring for the carts, its release (`playbooks/shop.yml` installs it first) has them.
    """
    services = topology.services
    if services is None:
        raise TopologyError("services: this topology has none, so there is no shop")
    _refuse(topology)
    model = data_model.load(shop=True)
    balanced = {
        name: {"port": services.port(name), "replicas": declared.instances} for name, declared in services.balanced()
    }
    return {
        "clusterDomain": cluster_domain,
        "cluster": {
            "name": cluster,
            "port": PORT,
            "routers": {"name": ROUTERS, "replicas": topology.routers.count},
            "tls": {"enabled": topology.tls.mode != "disabled"},
            "database": model.database,
            "regions": list(model.regions),
        },
        "services": balanced | {name: {"port": services.port(name)} for name in SINGLE},
        "cache": {"enabled": topology.backends.cache == "redis", "tls": {"enabled": _speaks_tls(topology)}},
        "kafka": {
            "enabled": topology.backends.event_log == "kafka",
            "brokers": topology.backends.kafka_brokers,
            "port": topology.backends.kafka_port,
        },
        "postgres": _postgres(topology.backends) | {"tls": {"enabled": _speaks_tls(topology)}},
        "ring": {"release": "" if topology.carts() == MONGODB else ring_chart.release_of(cluster, topology.carts())},
    }


def sized_for_a_laptop(values: dict[str, Any]) -> dict[str, Any]:
    """`shop_values` with one console, requests that leave two cores to the rest, small volumes, and patience."""
    services = {name: dict(declared) for name, declared in values["services"].items()}
    services["console"]["replicas"] = LAPTOP_CONSOLES
    return {
        **values,
        "services": services,
        "pod": LAPTOP_POD,
        "cache": values["cache"] | {"resources": LAPTOP_POD["resources"], "storage": {"size": "1Gi"}},
        "kafka": values["kafka"] | LAPTOP_BROKER,
        "postgres": values["postgres"] | LAPTOP_POSTGRES,
    }


def release_of(cluster: str) -> str:
    """Name of the shop's release beside the cluster's release `cluster`."""
    return f"{cluster}{SHOP_SUFFIX}"


def _postgres(backends: Backends) -> dict[str, Any]:
    """What both charts are told of PostgreSQL and what is in it; `host` is a server that is there."""
    return {
        "store": backends.store == "postgres",
        "catalogue": backends.catalogue == "postgres",
        "host": backends.postgres_host or "",
        "port": backends.postgres_port,
        "flavour": backends.postgres_flavour,
    }


def _speaks_tls(topology: Topology) -> bool:
    """Whether PostgreSQL and the cache speak TLS where the cluster does."""
    return topology.backends.tls is not False


def _refuse(topology: Topology) -> None:
    if topology.backends.patroni_nodes:
        raise TopologyError(
            "backends.postgres_nodes: on Kubernetes the shop has one server of PostgreSQL: leave it out, or name one "
            "that is there (`postgres_host`)"
        )
    if topology.backends.cache == REDIS_CLUSTER:
        raise TopologyError("backends.cache: on Kubernetes the shop has redis or memory")
