"""What Patroni is told: about a node, in its file, and about all of them, in etcd.

`DYNAMIC` is what decides that an acknowledged commit is never lost (docs/decisions/184).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cluster.shop import PATRONI_PORTS, Instance
from ..postgres import AUTHORITY, CERTIFICATE, HOST, SETTINGS, SHOP
from ..postgres.programs import TOOLS
from .etcd import NAMESPACE, PATRONI

SCOPE = "shop"
SUPERUSER, REPLICATION, REWIND, REST = "postgres", "replicator", "rewinder", "shardmart"
DYNAMIC: dict[str, Any] = {
    "ttl": 20,  # the least that Patroni takes: a leader that says nothing for so long is one no more
    "loop_wait": 2,
    "retry_timeout": 8,  # loop_wait + 2 x retry_timeout <= ttl, or a slow etcd ends a leader that is well
    # COMMIT is answered when one of the others has it on disk, whichever; strict: or is not answered at all.
    "synchronous_mode": "quorum",
    "synchronous_mode_strict": True,
    "synchronous_node_count": 1,
    # A leader whose PostgreSQL died hands over instead of recovering first: the other has all that was acknowledged.
    "primary_start_timeout": 0,
    # Without etcd a leader goes on as long as all others say that they know no other one.
    "failsafe_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {
            "max_connections": int(SHOP["max_connections"]),
            "wal_log_hints": "on",  # for pg_rewind
            "hot_standby": "on",
            "max_wal_senders": 8,
            "max_replication_slots": 8,
            "wal_keep_size": "256MB",
            "max_slot_wal_keep_size": "2GB",  # a node that stays away does not fill the disk of the others
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
        },
    },
}
"""Of all nodes; Patroni keeps it in etcd."""
OF_ALL = frozenset({"max_connections"})
ACCESS = ("host", "hostssl")
"""Without and with TLS."""


def settings(
    me: Instance,
    etcd: Sequence[Instance],
    folder: Path,
    programs: Path,
    passwords: dict[str, str],
    tools: Path | None = None,
) -> dict[str, Any]:
    """The configuration of the Patroni of one node, whose files lie in `folder`.

    `passwords` by user: the superuser, REPLICATION, REWIND, REST, and PATRONI of etcd.  With `tools`, a folder of those
    that `programs` lacks, all that PostgreSQL is asked and asks comes by TLS, certificate and name checked.
    """
    address = f"{me.host}:{me.port}"
    api = f"{me.host}:{me.port + PATRONI_PORTS}"
    own = {key: value.strip("'") for key, value in SETTINGS.items() if key not in OF_ALL | {"listen_addresses"}}
    kind, checked, others = ACCESS[tools is not None], {}, {}
    if tools:
        certificate = str(folder / CERTIFICATE)  # beside the data, which Patroni may copy anew
        own |= {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": certificate}
        checked = {"sslmode": "verify-full", "sslrootcert": str(folder / AUTHORITY)}
        others = {"bin_name": {name: str(tools / name) for name in TOOLS}}
    return {
        "scope": SCOPE,
        "namespace": NAMESPACE,
        "name": me.name,
        "log": {"deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": api,
            "connect_address": api,
            "authentication": {"username": REST, "password": passwords[REST]},
        },
        "etcd3": {
            "hosts": [one.address for one in etcd],
            "username": PATRONI,
            "password": passwords[PATRONI],
        },
        "bootstrap": {
            "dcs": DYNAMIC,
            "initdb": [
                {"auth": "scram-sha-256"},
                {"encoding": "UTF8"},
                {"locale-provider": "builtin"},
                {"locale": "C.UTF-8"},
            ],
        },
        "postgresql": {
            "listen": address,
            "connect_address": address,
            "data_dir": str(folder / "data"),
            "bin_dir": str(programs),
            **others,
            "pgpass": str(folder / "pgpass"),
            "pg_hba": [
                f"{kind} replication {REPLICATION} {HOST}/32 scram-sha-256",
                f"{kind} all all {HOST}/32 scram-sha-256",
            ],
            "parameters": own,
            "authentication": {
                "superuser": {"username": SUPERUSER, "password": passwords[SUPERUSER]} | checked,
                "replication": {"username": REPLICATION, "password": passwords[REPLICATION]} | checked,
                "rewind": {"username": REWIND, "password": passwords[REWIND]} | checked,
            },
            "basebackup": [{"checkpoint": "fast"}],
            # What a former leader has and nobody else was never acknowledged.
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        },
    }
