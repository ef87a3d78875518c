"""Access: which users there are, what each may do, and which component holds whose secret.

`access.yml` beside this file is the one home of these facts.  The users and keys under `shop` are there only for a
topology with services.  Nothing here reads a secret or talks to a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmart.declare import yaml_files
from shardmart.errors import BadUseError

DEFAULT_FILE = Path(__file__).with_name("access.yml")
KEYFILE = "keyfile"
READING_ROLES = frozenset({"root", "read", "readWrite", "readAnyDatabase", "readWriteAnyDatabase", "dbOwner"})
"""Built-in roles that may read documents of the database they are granted on, or of every one."""
EVERY_DATABASE = frozenset({"root", "readAnyDatabase", "readWriteAnyDatabase"})


class AccessError(BadUseError):
    """access.yml cannot be used; the message names the key that is wrong."""


@dataclass(frozen=True)
class Role:
    """A built-in role on a database."""

    role: str
    db: str


@dataclass(frozen=True)
class Privilege:
    """`actions` on a resource document of MongoDB: {"cluster": True}, or {"db", "collection"} where "" is every one."""

    resource: Mapping[str, Any]
    actions: tuple[str, ...]

    def reads(self, database: str) -> bool:
        """Whether it lets documents of any collection of `database` be read."""
        if not {"find", "anyAction"} & set(self.actions):
            return False
        return bool(self.resource.get("anyResource")) or self.resource.get("db") in ("", database)


@dataclass(frozen=True)
class User:
    """A user of the `admin` database; `held_by` are the components that mount its password."""

    name: str
    purpose: str
    roles: tuple[Role, ...]
    privileges: tuple[Privilege, ...]
    held_by: tuple[str, ...]

    @property
    def password(self) -> str:
        """Name of the file, and key of the Secret, with the password."""
        return f"{self.name}.password"

    def may_read(self, database: str) -> bool:
        """Whether a role or privilege lets the user read documents of `database`."""
        by_role = any(r.role in EVERY_DATABASE or (r.role in READING_ROLES and r.db == database) for r in self.roles)
        return by_role or any(privilege.reads(database) for privilege in self.privileges)

    def as_task_argument(self) -> dict[str, Any]:
        """The user as the `mongodb_users` Ansible module takes it."""
        return {
            "name": self.name,
            "roles": [{"role": role.role, "db": role.db} for role in self.roles],
            "privileges": [{"resource": dict(p.resource), "actions": list(p.actions)} for p in self.privileges],
        }


@dataclass(frozen=True)
class Key:
    """A secret of the shop that is no database user's; its file is `NAME.password` like the others."""

    name: str
    held_by: tuple[str, ...]

    @property
    def password(self) -> str:
        """Name of the file, and key of the Secret."""
        return f"{self.name}.password"


@dataclass(frozen=True)
class Access:
    """Users in the order in which they are made, and who holds which secret."""

    users: tuple[User, ...]
    holders: tuple[str, ...]
    keyfile_held_by: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    """The shop's own."""

    @property
    def administrator(self) -> User:
        """Who creates the others."""
        return self.users[0]

    @property
    def last(self) -> User:
        """The user whose being there says that the bootstrap is done."""
        return self.users[-1]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret there is, by the name of its file and of its key in the Secret."""
        return (KEYFILE, *(user.password for user in self.users))

    def held_by(self, holder: str) -> tuple[str, ...]:
        """The secrets of one component; KeyError for a component that access.yml does not name."""
        if holder not in self.holders:
            raise KeyError(holder)
        keyfile = (KEYFILE,) if holder in self.keyfile_held_by else ()
        return (*keyfile, *(one.password for one in self._with_files if holder in one.held_by))

    @property
    def _with_files(self) -> tuple[User | Key, ...]:
        """Whoever has a file with a password."""
        return (*self.users, *self.keys)

    def strangers(self, database: str) -> tuple[User, ...]:
        """The users that may not read `database`."""
        return tuple(user for user in self.users if not user.may_read(database))

    def as_variable(self, database: str) -> dict[str, Any]:
        """Plain data for Ansible: users as tasks take them, secrets by holder, who may not read `database`."""
        administrator, *others = (user.as_task_argument() for user in self.users)
        return {
            "administrator": administrator,
            "users": others,
            "passwords": [one.password for one in self._with_files],
            "held_by": {holder: list(self.held_by(holder)) for holder in self.holders},
            "strangers": [user.name for user in self.strangers(database)],
        }


def load(database: str, path: Path = DEFAULT_FILE, *, shop: bool = False) -> Access:
    """Read the users of `path`, the shop's only with `shop`; `database` takes the place of "{data}".

    Raises AccessError by the key that is wrong.
    """
    document = yaml_files.read(path)
    holders = tuple(document["holders"])
    keyfile = _known(holders, document["keyfile"]["held_by"], f"{path.name}: keyfile.held_by")
    users = tuple(
        _user(entry, database, holders, f"{path.name}: {key}[{i}]")
        for key, entries in (("users", document["users"]), ("shop.users", document["shop"]["users"] if shop else []))
        for i, entry in enumerate(entries)
    )
    names = [user.name for user in users]
    if twice := {name for name in names if names.count(name) > 1}:
        raise AccessError(f"{path.name}: users: {', '.join(sorted(twice))} is there twice")
    keys = tuple(
        Key(entry["name"], _known(holders, entry["held_by"], f"{path.name}: shop.keys[{i}].held_by"))
        for i, entry in enumerate(document["shop"]["keys"] if shop else [])
    )
    return Access(users, holders, keyfile, keys)


def _user(entry: Mapping[str, Any], database: str, holders: tuple[str, ...], key: str) -> User:
    if unknown := set(entry) - {"name", "purpose", "roles", "privileges", "held_by"}:
        raise AccessError(f"{key}: unknown key {', '.join(sorted(unknown))}")

    def named(value: Any) -> Any:
        return database if value == "{data}" else value

    return User(
        name=entry["name"],
        purpose=entry["purpose"],
        roles=tuple(Role(role["role"], named(role["db"])) for role in entry.get("roles", [])),
        privileges=tuple(
            Privilege({k: named(v) for k, v in privilege["resource"].items()}, tuple(privilege["actions"]))
            for privilege in entry.get("privileges", [])
        ),
        held_by=_known(holders, entry["held_by"], f"{key}.held_by"),
    )


def _known(holders: tuple[str, ...], named: list[str], key: str) -> tuple[str, ...]:
    for holder in named:
        if holder not in holders:
            raise AccessError(f"{key}: no holder {holder!r}, `holders` has {', '.join(holders)}")
    return tuple(named)
