"""The schema of a node: what is missing of it is made, what is there in another text is made anew; a second run does
nothing.

A table that is there keeps its columns, and is never dropped.  Roles and their passwords are kept the same way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from psycopg import sql

from shardmart.errors import UnreachableError

from ..configuration import APPLICATION, DATABASE, PEER, Configuration, Node
from ..connection import Connection, administrator, connect, one_line, scalar
from . import products

THING = re.compile(r"^-- thing: (\w+) (\w+)(?: ON (\w+))?\n", re.MULTILINE)
FILES = ("shop.sql", "peers.sql", "coordinator.sql")
INDEX_SECONDS = 1800.0
"""The longest that one statement of the schema may take: an index that was lost is made anew over all rows."""
WRITTEN = (
    "Customer", "Orders", "OrderItems", "Payments", "Shipments", "Products", "Customer_Region", "Coordinator_Log",
    "Seedings",
)  # fmt: skip
"""What the application reads and writes."""
READ = (
    "SHIPMENT_DETAILS_TABLE", "CUSTOMER_DETAILS_TABLE", "Shipments_Reconstructed", "Customer_Region_Conflicts",
    "Customers_Of_All_Regions",
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A table, index, view, function, trigger or constraint (these with their table), and the SQL that makes it."""

    kind: str
    name: str
    create: str
    table: str | None = None

    @property
    def text(self) -> str:
        """What a function or view carries as its comment, so that another text is noticed."""
        return hashlib.sha256(self.create.encode()).hexdigest()[:16]

    def is_there(self, connection: Connection) -> bool:
        """Whether it exists; a function or view with this very text."""
        if self.kind == "function":
            found = connection.execute(
                "SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE proname = %s "
                "AND pronamespace = 'public'::regnamespace",
                (self.name,),
            ).fetchone()
            return found is not None and found[0] == self.text
        if self.kind == "view":
            return bool(
                scalar(connection, "SELECT obj_description(to_regclass(%s), 'pg_class') = %s", self.name, self.text)
            )
        if self.kind == "trigger":
            query = "SELECT count(*) FROM pg_trigger WHERE tgname = %s AND tgrelid = to_regclass(%s)"
            return bool(scalar(connection, query, self.name, self.table))
        if self.kind == "constraint":
            query = "SELECT count(*) FROM pg_constraint WHERE conname = %s AND conrelid = to_regclass(%s)"
            return bool(scalar(connection, query, self.name, self.table))
        return bool(scalar(connection, "SELECT to_regclass(%s) IS NOT NULL", self.name))

    def make(self, connection: Connection) -> None:
        """Make it."""
        connection.execute(self.create.encode())
        if self.kind in ("function", "view"):
            kind = sql.SQL(self.kind.upper())
            connection.execute(
                sql.SQL("COMMENT ON {} {} IS {}").format(kind, sql.Identifier(self.name), sql.Literal(self.text))
            )


def things(text: str, region: str) -> Iterator[Thing]:
    """The things of one SQL file, in its order."""
    pieces = THING.split(text.replace("{region}", region))[1:]
    for kind, name, table, create in zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=True):
        yield Thing(kind, name, create.strip(), table)


def declared(configuration: Configuration, node: Node) -> list[Thing]:
    """Everything that belongs on a node, in the order in which it can be made."""
    folder = resources.files(__package__) / "sql"
    found = [thing for file in FILES for thing in things((folder / file).read_text(), node.name)]
    return found + [Thing(kind, name, text) for kind, name, text in products.things(configuration, node)]


def converge(configuration: Configuration, node: Node, *, check: bool = False) -> list[str]:
    """Have roles, database and schema on one node; returns what was, or with `check` would be, done.

    Raises UnreachableError when the node does not answer or does not know the administrator's password.
    """
    changes: list[str] = []
    with administrator(configuration, node, database="postgres") as connection:
        for role in (APPLICATION, PEER):
            changes += _role(configuration, node, connection, role, check=check)
        if not scalar(connection, "SELECT count(*) FROM pg_database WHERE datname = %s", DATABASE):
            changes.append(f"{node.name}: create database {DATABASE}")
            if not check:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
            else:
                return changes
    with administrator(configuration, node) as connection:
        connection.answer_seconds = INDEX_SECONDS
        changes += products.converge_servers(configuration, node, connection, check=check)
        changes += products.drop_undeclared(configuration, node, connection, check=check)
        missing = [thing for thing in declared(configuration, node) if not thing.is_there(connection)]
        changes += [f"{node.name}: create {thing.kind} {thing.name}" for thing in missing]
        if not check:
            with connection.transaction():
                for thing in missing:
                    thing.make(connection)
                _grant(configuration, connection)
    return changes


def _role(configuration: Configuration, node: Node, connection: Connection, role: str, *, check: bool) -> list[str]:
    """Have a role with its password; log in to prove that it is the right one."""
    options = "LOGIN REPLICATION" if role == PEER else "LOGIN"
    there = scalar(connection, "SELECT count(*) FROM pg_roles WHERE rolname = %s", role)
    if there and _accepts(configuration, node, role):
        return []
    if not check:
        # The server gets the verifier, never the password: it could stand in a log.
        password = configuration.password(role).encode()
        verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256").decode()
        verb = "ALTER" if there else "CREATE"
        connection.execute(
            sql.SQL("{} ROLE {} WITH {} PASSWORD {}").format(
                sql.SQL(verb), sql.Identifier(role), sql.SQL(options), sql.Literal(verifier)
            )
        )
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(sql.Identifier(role)))
    return [f"{node.name}: {'change the password of' if there else 'create'} role {role}"]


def _accepts(configuration: Configuration, node: Node, role: str) -> bool:
    try:
        with one_line(node), connect(configuration, node, role, database="postgres"):
            return True
    except UnreachableError as error:
        if "password" in str(error):
            return False
        raise


def _grant(configuration: Configuration, connection: Connection) -> None:
    """Least privilege, said anew each time: it changes nothing that is there."""
    application, peer = sql.Identifier(APPLICATION), sql.Identifier(PEER)
    connection.execute(
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(sql.Identifier(DATABASE), application, peer)
    )
    fragments = [band.fragment for band in configuration.bands]
    for names, rights in (
        ((*WRITTEN, *fragments), "SELECT, INSERT, UPDATE, DELETE"),
        (READ, "SELECT"),
    ):
        _grant_on(connection, names, rights, application)
    # The foreign tables of the other nodes come in as the peer.
    _grant_on(connection, fragments, "SELECT, INSERT, UPDATE, DELETE", peer)


def _grant_on(connection: Connection, names: Sequence[str], rights: str, role: sql.Identifier) -> None:
    tables = sql.SQL(", ").join(sql.Identifier(name.lower()) for name in names)
    connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), tables, role))


def version(configuration: Configuration, node: Node) -> str:
    """The server's version, as it says it."""
    with administrator(configuration, node, database="postgres") as connection:
        return str(scalar(connection, "SHOW server_version"))
