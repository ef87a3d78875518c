"""What Shardmart's Ansible modules have in common: connection arguments, one-line failures, the shape of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib  # type: ignore[import-untyped]

try:
    from pymongo.errors import OperationFailure, PyMongoError

    from . import description
    from .converge.outcome import Outcome
    from .converge.sharding import CollectionSpec, ZoneRange
    from .description import Cluster
    from .errors import ClusterError
    from .protocol.connection import Credentials, Tls, describe, tls_from

    PYMONGO = True
except ImportError:  # said by `run`: the place where a module runs needs PyMongo
    PYMONGO = False

CLUSTER_ARGUMENT: dict[str, Any] = {"cluster": {"type": "dict", "required": True}}
TLS_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "options": {
        "ca_file": {"type": "path", "required": True},
        "certificate_key_file": {"type": "path"},
    },
}
KEYFILE_ARGUMENTS: dict[str, Any] = {"keyfile": {"type": "path", "no_log": False}, "tls": TLS_ARGUMENT}
LOGIN_ARGUMENTS: dict[str, Any] = {
    "login_user": {"type": "str", "default": "admin"},
    "login_password_file": {"type": "path", "no_log": False},
    "tls": TLS_ARGUMENT,
}
WAIT_ARGUMENT: dict[str, Any] = {"wait_seconds": {"type": "float", "default": 60.0}}


def cluster_of(module: AnsibleModule) -> Cluster:
    """The `cluster` argument; DescriptionError for one that makes no sense."""
    return description.parse(module.params["cluster"])


def tls_of(module: AnsibleModule) -> Tls | None:
    """The `tls` argument, None when it was not given."""
    return tls_from(module.params.get("tls"))


def keyfile_credentials(module: AnsibleModule) -> Credentials:
    """`__system` by the `keyfile` argument; nobody when it was not given."""
    keyfile = module.params.get("keyfile")
    return Credentials(keyfile=Path(keyfile) if keyfile else None, tls=tls_of(module))


def login_credentials(module: AnsibleModule) -> Credentials:
    """The user of `login_user` and `login_password_file`; nobody when no password file was given."""
    password_file = module.params.get("login_password_file")
    if not password_file:
        return Credentials(tls=tls_of(module))
    return Credentials(username=module.params["login_user"], password_file=Path(password_file), tls=tls_of(module))


def collection_specs(entries: list[dict[str, Any]]) -> list[CollectionSpec]:
    """The `collections` argument as specifications."""
    return [
        CollectionSpec(
            name=entry["name"],
            shard_key=entry["shard_key"],
            indexes=tuple(entry.get("indexes") or ()),
            zone_ranges=tuple(ZoneRange(r["zone"], r["min"], r["max"]) for r in entry.get("zone_ranges") or ()),
            validator=entry.get("validator"),
        )
        for entry in entries
    ]


@contextmanager
def one_line_failures(module: AnsibleModule) -> Iterator[None]:
    """Turn what may go wrong with a cluster into `fail_json` with one readable message."""
    try:
        yield
    except ClusterError as error:
        module.fail_json(msg=str(error))
    except PyMongoError as error:
        code = f" (code {error.code})" if isinstance(error, OperationFailure) else ""
        module.fail_json(msg=f"{describe(error)}{code}")


def run(
    argument_spec: dict[str, Any], body: Callable[[AnsibleModule], Outcome | dict[str, Any]], **options: Any
) -> None:
    """Be an Ansible module: parse arguments, call `body`, exit with what it did or found, or fail in one line."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **options)
    if not PYMONGO:
        module.fail_json(msg=missing_required_lib("pymongo"))
    with one_line_failures(module):
        done = body(module)
        module.exit_json(**(done if isinstance(done, dict) else done.as_module_result()))
