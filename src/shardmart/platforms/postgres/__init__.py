"""PostgreSQL as processes of this machine: its programs, its user and folder, its servers."""

from .host import Host
from .servers import AUTHORITY, CERTIFICATE, HOST, PEERS, SETTINGS, SHOP, TLS, Server, converge, remove, stop

__all__ = [
    "AUTHORITY",
    "CERTIFICATE",
    "HOST",
    "PEERS",
    "SETTINGS",
    "SHOP",
    "TLS",
    "Host",
    "Server",
    "converge",
    "remove",
    "stop",
]
