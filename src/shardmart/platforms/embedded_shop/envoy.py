"""Envoy's configuration for the shop: a listener per service, its instances behind it, and active health checks.

Three files: a start-up file that never changes, and listeners and clusters, which Envoy watches and takes over without
a restart (xDS from the file system), so that adding an instance closes no connection.  Field names are those of Envoy's
v3 API.  Nothing here starts Envoy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...cluster.shop import BALANCED, PATRONI_PORTS, Instance, Service, Shop

BOOTSTRAP, LISTENERS, CLUSTERS = "bootstrap.json", "listeners.json", "clusters.json"

CHECK_SECONDS = 1
"""Between two questions for `/readyz`.  Anything but 200 takes an instance out at once, two silences do too."""
IDLE_SECONDS = 30
"""An unused connection to an instance is closed by Envoy.  An instance keeps it for 75 s: were it the first to close, a
request could be sent on a connection that has just gone, and nobody could say whether it was handled."""
CONNECT_SECONDS = 1
REQUEST_SECONDS = 30
"""A request that takes longer is answered 504; an instance gives up on its store after 5 s."""
ENTRANCE = "postgres"
"""What Envoy calls the store's servers under Patroni."""
STREAMS = "/stream"
"""Server-sent events: open as long as the reader likes."""
RETRIES = 3

TYPES = "type.googleapis.com/envoy"


def files(shop: Shop, folder: Path, health_log: Path) -> dict[str, str]:
    """Every file of Envoy's configuration in `folder`, by name; who is taken out and brought back goes to a log."""
    balanced = [service for service in shop.services if service.name in BALANCED]
    clusters = [_cluster(service, health_log) for service in balanced]
    listeners = [_listener(service) for service in balanced]
    if shop.postgres_entrance:
        clusters.append(_leader(shop))
        listeners.append(_entrance(shop.postgres_entrance))
    return {
        BOOTSTRAP: _text(_bootstrap(folder)),
        CLUSTERS: _text(_resources(clusters)),
        LISTENERS: _text(_resources(listeners)),
    }


def taken_out(health_log: Path) -> set[tuple[str, int]]:
    """Host and port of the instances that Envoy sends nothing to now, as its health log tells."""
    out: set[tuple[str, int]] = set()
    try:
        lines = health_log.read_text().splitlines()
    except FileNotFoundError:
        return out
    for line in lines:
        try:
            event = json.loads(line)
            address = event.get("host", {})["socket_address"]
            place = (address["address"], int(address["port_value"]))
        except (ValueError, KeyError, TypeError):
            continue  # a line that is being written
        if "eject_unhealthy_event" in event:
            out.add(place)
        elif "add_healthy_event" in event:
            out.discard(place)
    return out


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def _resources(resources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"resources": list(resources)}


def _bootstrap(folder: Path) -> dict[str, Any]:
    """Where the rest is.  There is no administration listener: it would let any process of this machine end Envoy."""

    def watched(name: str) -> dict[str, Any]:
        return {
            "resource_api_version": "V3",
            "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}},
        }

    return {
        "node": {"id": "load-balancer", "cluster": "shop"},
        "dynamic_resources": {"cds_config": watched(CLUSTERS), "lds_config": watched(LISTENERS)},
    }


def _cluster(service: Service, health_log: Path) -> dict[str, Any]:
    """A service's instances, each asked for its health."""
    logger = {
        "name": "envoy.health_check.event_sinks.file",
        "typed_config": {
            "@type": f"{TYPES}.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
            "event_log_path": str(health_log),
        },
    }
    return {
        **_checked(service.name, "/readyz", [_endpoint(one.host, one.port) for one in service.instances], logger),
        "lb_policy": "LEAST_REQUEST",
        # An instance that the topology has no more goes at once; what it has in hand, it finishes.
        "ignore_health_on_host_removal": True,
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _checked(name: str, path: str, endpoints: list[dict[str, Any]], *loggers: dict[str, Any]) -> dict[str, Any]:
    """A cluster's name, who is in it, and the path that each is asked for its health; who goes and comes is logged."""
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        # Nobody is asked who is known to be ill, not even when all are: no answer at once is the better one.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": f"{CHECK_SECONDS}s",
                "no_traffic_interval": f"{CHECK_SECONDS}s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": path},
                **({"event_logger": list(loggers)} if loggers else {}),
            }
        ],
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _leader(shop: Shop) -> dict[str, Any]:
    """The store's servers, of which the one that leads is alone healthy: its Patroni answers 200 to `/primary`."""

    def node(one: Instance) -> dict[str, Any]:
        asked = {"port_value": one.port + PATRONI_PORTS}
        return {"endpoint": {"address": _address(one.host, one.port), "health_check_config": asked}}

    return {
        **_checked(ENTRANCE, "/primary", list(map(node, shop.postgres_nodes))),
        # Who was connected to a former leader looks for the next one, instead of asking it on.
        "close_connections_on_host_health_failure": True,
    }


_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _endpoint(host: str, port: int) -> dict[str, Any]:
    return {"endpoint": {"address": _address(host, port)}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(service: Service) -> dict[str, Any]:
    """A service's port for callers."""
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": service.name,
        "route_config": {
            "name": service.name,
            "virtual_hosts": [{"name": service.name, "domains": ["*"], "routes": _routes(service.name)}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,  # or a caller could raise its own timeouts and retries
                },
            }
        ],
        # The caller's address goes on in X-Forwarded-For, and what a caller wrote there is not believed.
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "0s",  # an instance's live stream says something every 10 s, and its reader may be slow
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "local_reply_config": _local_replies(),
    }
    return {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": service.name,
        "address": _address(service.host, service.port),
        "per_connection_buffer_limit_bytes": 131_072,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _entrance(at: Instance) -> dict[str, Any]:
    """One address for whichever server leads.  Bytes are passed on as they are: TLS is between client and server."""
    proxy = {
        "@type": f"{TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": ENTRANCE,
        "cluster": ENTRANCE,
        "idle_timeout": "0s",  # a session of psql may be silent for hours
    }
    return {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": ENTRANCE,
        "address": _address(at.host, at.port),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
    }


def _routes(cluster: str) -> list[dict[str, Any]]:
    """Which requests may be sent a second time: those that only read, and any whose connection was never made."""

    def route(match: Mapping[str, Any], retry_on: str, timeout: str = f"{REQUEST_SECONDS}s") -> dict[str, Any]:
        retries = {
            "retry_on": retry_on,
            "num_retries": RETRIES,
            # Not the instance that just failed, as long as there is another.
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": f"{TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            "host_selection_retry_max_attempts": 5,
        }
        return {"match": match, "route": {"cluster": cluster, "timeout": timeout, "retry_policy": retries}}

    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD|OPTIONS"}}}
    return [
        route({"path": STREAMS}, "connect-failure", timeout="0s"),
        route({"prefix": "/", "headers": [reads]}, "connect-failure,reset,refused-stream"),
        route({"prefix": "/"}, "connect-failure"),
    ]


def _local_replies() -> dict[str, Any]:
    """What Envoy answers itself is a problem document (RFC 9457), with the time after which to ask again."""
    return {
        "mappers": [
            {
                "filter": {
                    "status_code_filter": {
                        "comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "local_reply.from"}}
                    }
                },
                "headers_to_add": [
                    {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                ],
            }
        ],
        "body_format": {
            "content_type": "application/problem+json",
            "json_format": {
                "type": "about:blank",
                "title": "Answered by the load balancer",
                "status": "%RESPONSE_CODE%",
                "detail": "%RESPONSE_CODE_DETAILS%",
            },
        },
    }
