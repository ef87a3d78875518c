"""TLS in front of the cache: an Envoy whose listeners are the addresses that clients know.

The server behind it has no port, but a socket in a folder that nobody else may enter: the wheel's Valkey is built
without TLS, and what has no port is never spoken to in the clear.  The certificate is the cluster's; Envoy watches its
folder and serves a renewed one at once.  Field names are those of Envoy's v3 API.  Nothing here starts Envoy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...cluster.shop import Instance
from .envoy import CONNECT_SECONDS, TYPES

BOOTSTRAP, CERTIFICATE = "bootstrap.json", "certificate.json"
SECRET = "server"  # noqa: S105  the name by which a listener finds its certificate


def files(nodes: Sequence[Instance], socket: Callable[[str], Path], folder: Path, certificates: Path) -> dict[str, str]:
    """The start-up file and the one that says which certificate, both of `folder`, by name.

    `socket(name)` is where a node listens; `certificates` is the folder with server.pem.
    """
    listeners = [_listener(node, folder / CERTIFICATE) for node in nodes]
    clusters = [_cluster(node.name, socket(node.name)) for node in nodes]
    bootstrap = {
        "node": {"id": "cache-tls", "cluster": "shop"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    pem = {"filename": str(certificates / "server.pem")}  # key and certificate, as MongoDB wants them
    secret = {
        "@type": f"{TYPES}.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "tls_certificate": {
            "certificate_chain": pem,
            "private_key": pem,
            "watched_directory": {"path": str(certificates)},
        },
    }
    return {BOOTSTRAP: _text(bootstrap), CERTIFICATE: _text({"resources": [secret]})}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def _listener(node: Instance, certificate: Path) -> dict[str, Any]:
    proxy = {
        "@type": f"{TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": node.name,
        "cluster": node.name,
        "idle_timeout": "0s",  # a subscriber may hear nothing for hours
    }
    tls = {
        "@type": f"{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [
                {
                    "name": SECRET,
                    "sds_config": {
                        "resource_api_version": "V3",
                        "path_config_source": {"path": str(certificate)},
                    },
                }
            ],
        },
    }
    return {
        "name": node.name,
        "address": {"socket_address": {"address": node.host, "port_value": node.port}},
        "filter_chains": [
            {
                "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            }
        ],
    }


def _cluster(name: str, socket: Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
