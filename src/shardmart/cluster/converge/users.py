"""Keep users as declared: log in first, make or repair second.

Logging in proves a password without changing anything.  When it fails, whoever may change users does: the administrator
given, else `__system` by the keyfile, which can make the first user and always repair.  Passwords are
read from their files where the module runs; they are compared by logging in and never returned.  A user that is kept
carries MARK in its `customData`; only users with it are ever dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pymongo.errors import OperationFailure, PyMongoError

from ..errors import ClusterError, SecretMissingError
from ..protocol import codes
from ..protocol.connection import (
    Client,
    Credentials,
    Deadline,
    Document,
    connect,
    describe,
    is_code,
    read_secret,
)
from .outcome import Outcome

MAJORITY = {"w": "majority"}
MARK = {"made_by": "shardmart"}
CONNECT_SECONDS = 10.0
"""A server is given this long to be connected to, or what is left when that is less."""


@dataclass(frozen=True)
class UserSpec:
    """A declared user of the `admin` database.

    `roles` are {"role", "db"} documents. `privileges`, privilege documents, make a custom role with the user's own
    name, which is kept with the user.
    """

    name: str
    password_file: Path
    roles: tuple[Document, ...]
    privileges: tuple[Document, ...] = ()

    def all_roles(self) -> list[Document]:
        """The roles to grant: the declared ones and, with privileges, the user's own role."""
        own = [{"role": self.name, "db": "admin"}] if self.privileges else []
        return [*self.roles, *own]

    def credentials(self, like: Credentials) -> Credentials:
        """This user's login, with the transport of `like`."""
        return Credentials(username=self.name, password_file=self.password_file, tls=like.tls)


@dataclass(frozen=True)
class Administrators:
    """Who may change users: an administrator's login, and `__system` by the keyfile as the last resort."""

    login: Credentials | None = None
    keyfile: Credentials | None = None

    def transport(self) -> Credentials:
        """Nobody, with the TLS settings that were given."""
        return (self.login or self.keyfile or Credentials()).anonymous()


def converge(
    users: Sequence[UserSpec],
    address: str,
    administrators: Administrators,
    *,
    wait_seconds: float = 60,
    check_mode: bool = False,
    drop_others_but: Collection[str] | None = None,
) -> Outcome:
    """Create the users, or repair their passwords, roles and privileges.

    Users with our mark that are neither among them nor named in `drop_others_but` are dropped; None drops nobody.
    `address` is a router or the primary of the config servers. Raises ClusterError when nobody given may change
    users, DeadlineError when the server does not answer in time.
    """
    deadline = Deadline(wait_seconds)
    while True:
        try:
            changes: list[str] = []
            for spec in users:
                changes += _converge_one(spec, address, administrators, deadline, check_mode=check_mode)
            if drop_others_but is not None:
                kept = {*drop_others_but, *(spec.name for spec in users)}
                changes += _drop_others(kept, address, administrators, deadline, check_mode=check_mode)
            return Outcome(changes)
        except OperationFailure as error:
            raise ClusterError(f"{address}: users cannot be changed: {describe(error)}") from None
        except SecretMissingError:
            if not check_mode:
                raise
            return Outcome([f"create user {spec.name}" for spec in users])
        except PyMongoError as error:
            if check_mode:
                return Outcome([f"create user {spec.name}" for spec in users])
            deadline.pause(f"{address} to keep users: {describe(error)}")


def accepts(credentials: Credentials, address: str, *, timeout_seconds: float = CONNECT_SECONDS) -> bool:
    """Whether the server at `address` accepts this login; PyMongoError when it does not answer."""
    with connect(address, credentials, timeout_seconds=timeout_seconds) as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            if is_code(error, codes.AUTHENTICATION_FAILED, codes.UNAUTHORIZED):
                return False
            raise
    return True


def _patience(deadline: Deadline) -> float:
    """How long to wait for one connection: never much beyond the deadline of all."""
    return min(CONNECT_SECONDS, deadline.remaining + 0.1)


def _converge_one(
    spec: UserSpec, address: str, administrators: Administrators, deadline: Deadline, *, check_mode: bool
) -> list[str]:
    own = spec.credentials(administrators.transport())
    accepted = accepts(own, address, timeout_seconds=_patience(deadline))
    with _administrator(own if accepted else None, address, administrators, deadline) as client:
        return _repair(client, spec, accepted=accepted, check_mode=check_mode)


def _drop_others(
    kept: Collection[str], address: str, administrators: Administrators, deadline: Deadline, *, check_mode: bool
) -> list[str]:
    """Drop the users with our mark that are not to be kept, and the roles that were made with them."""
    changes: list[str] = []
    with _administrator(None, address, administrators, deadline) as client:
        admin = client.admin
        for user in admin.command({"usersInfo": 1})["users"]:
            if user["user"] in kept or not _is_marked(user):
                continue
            changes.append(f"drop user {user['user']}: it is declared no more")
            if check_mode:
                continue
            admin.command({"dropUser": user["user"], "writeConcern": MAJORITY})
            if f"{user['user']}@admin" in _role_names(user["roles"]):
                admin.command({"dropRole": user["user"], "writeConcern": MAJORITY})
    return changes


def _is_marked(user: Document) -> bool:
    return MARK.items() <= (user.get("customData") or {}).items()


def _create_user(spec: UserSpec) -> Document:
    return {
        "createUser": spec.name,
        "pwd": read_secret(spec.password_file).strip(),
        "roles": spec.all_roles(),
        "mechanisms": ["SCRAM-SHA-256"],
        "customData": MARK,
        "writeConcern": MAJORITY,
    }


@contextmanager
def _administrator(
    own: Credentials | None, address: str, administrators: Administrators, deadline: Deadline
) -> Iterator[Client]:
    """A client that may change users: the administrator, `__system`, or the user itself when nobody else is given.

    ClusterError when no login works.
    """
    for credentials in (administrators.login, administrators.keyfile, own):
        if credentials is not None and accepts(credentials, address, timeout_seconds=_patience(deadline)):
            with connect(address, credentials) as client:
                yield client
                return
    raise ClusterError(f"{address}: neither the administrator's password nor the keyfile is accepted")


def _repair(client: Client, spec: UserSpec, *, accepted: bool, check_mode: bool) -> list[str]:
    """Compare what the server knows of the user with what is declared, and mend the difference."""
    admin = client.admin
    commands: list[tuple[str, Document]] = []
    if spec.privileges:
        commands += _role_commands(client, spec)
    found = admin.command("usersInfo", {"user": spec.name, "db": "admin"})["users"]
    if not found:
        commands.append((f"create user {spec.name}", _create_user(spec)))
    else:
        if not accepted:
            password = read_secret(spec.password_file).strip()
            commands.append(
                (
                    f"{spec.name}: change the password",
                    {"updateUser": spec.name, "pwd": password, "mechanisms": ["SCRAM-SHA-256"]},
                )
            )
        if not _is_marked(found[0]):
            marked = (found[0].get("customData") or {}) | MARK
            commands.append((f"{spec.name}: mark as declared here", {"updateUser": spec.name, "customData": marked}))
        before, after = _role_names(found[0]["roles"]), _role_names(spec.all_roles())
        if before != after:
            change = f"{spec.name}: roles {_listed(before)} -> {_listed(after)}"
            commands.append((change, {"updateUser": spec.name, "roles": spec.all_roles()}))
            if f"{spec.name}@admin" in before - after:
                commands.append((f"drop role {spec.name}", {"dropRole": spec.name}))
    if not check_mode:
        for _, command in commands:
            admin.command(command | {"writeConcern": MAJORITY})
    return [change for change, _ in commands]


def _role_commands(client: Client, spec: UserSpec) -> list[tuple[str, Document]]:
    role = {"role": spec.name, "db": "admin"}
    found = client.admin.command("rolesInfo", role, showPrivileges=True)["roles"]
    body = {"privileges": list(spec.privileges), "roles": []}
    if not found:
        return [(f"create role {spec.name}", {"createRole": spec.name} | body)]
    if _privilege_set(found[0]["privileges"]) != _privilege_set(spec.privileges):
        return [(f"role {spec.name}: change the privileges", {"updateRole": spec.name} | body)]
    return []


def _privilege_set(privileges: Sequence[Document]) -> set[tuple[tuple[tuple[str, object], ...], frozenset[str]]]:
    return {(tuple(sorted(p["resource"].items())), frozenset(p["actions"])) for p in privileges}


def _role_names(roles: Sequence[Document]) -> set[str]:
    return {f"{role['role']}@{role['db']}" for role in roles}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
