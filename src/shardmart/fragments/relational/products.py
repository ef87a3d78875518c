"""Products in price fragments: on every node one table of all of them, its own fragment in place, the others foreign.

The same query works on every node.  A fragment is a partition on its own node, too, so that node itself refuses a row
of another band: a remote table without that check would keep a row which pruning then hides (postgres_fdw's
documentation, "Caution" of CREATE FOREIGN TABLE).
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from shardmart.errors import RefusedError

from ..configuration import APPLICATION, DATABASE, PEER, Configuration, Node
from ..connection import TCP, Connection, scalar
from ..money import CATCH_ALL, Band

COLUMNS = ("product_id", "name", "category", "price_cents", "stock")
TABLE = """CREATE TABLE Products (
    product_id text NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    category text NOT NULL,
    price_cents integer NOT NULL,
    stock integer NOT NULL CHECK (stock >= 0)
) PARTITION BY RANGE (price_cents)"""
"""Without a primary key: a unique index cannot span foreign partitions. Each fragment has one; `verify` looks for a
product that is in two."""

FETCH = 10_000
"""Rows that a foreign scan takes at a time, and an insert sends at a time (defaults: 100 and 1)."""


def server_name(node: Node) -> str:
    """The name of a node as a foreign server on its peers."""
    return f"node_{node.word}"


def things(configuration: Configuration, node: Node) -> Iterator[tuple[str, str, str]]:
    """Kind, name and SQL of the tables and indexes of Products on a node."""
    yield "table", "products", TABLE
    for band in configuration.bands:
        if band.region == node.name:
            check = "" if band is CATCH_ALL else f", CONSTRAINT {band.table}_price CHECK ({bounds(band)})"
            table = (
                f"CREATE TABLE {band.fragment} PARTITION OF Products (PRIMARY KEY (product_id){check}) {values(band)}"
            )
            yield "table", band.table, table
            yield (
                "index",
                f"{band.table}_by_price",
                f"CREATE INDEX {band.table}_by_price ON {band.fragment} (price_cents)",
            )
        else:
            server = server_name(configuration.node(band.region))
            options = f"OPTIONS (schema_name 'public', table_name '{band.table}')"
            yield (
                "table",
                band.table,
                f"CREATE FOREIGN TABLE {band.fragment} PARTITION OF Products {values(band)} SERVER {server} {options}",
            )


def bounds(band: Band) -> str:
    """The band as a condition."""
    return f"price_cents >= {band.low} AND price_cents < {band.high}"


def values(band: Band) -> str:
    """The band as the bounds of a partition."""
    return "DEFAULT" if band is CATCH_ALL else f"FOR VALUES FROM ({band.low}) TO ({band.high})"


def converge_servers(configuration: Configuration, node: Node, connection: Connection, *, check: bool) -> list[str]:
    """Have the other nodes as foreign servers, and the passwords for them; returns what was done."""
    changes: list[str] = []
    if not scalar(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'postgres_fdw'"):
        changes.append(f"{node.name}: create extension postgres_fdw")
        if not check:
            connection.execute("CREATE EXTENSION postgres_fdw")
    for other in configuration.others(node):
        name, options = server_name(other), _server_options(configuration, other)
        found = connection.execute("SELECT srvoptions FROM pg_foreign_server WHERE srvname = %s", (name,)).fetchone()
        if found is None:
            changes.append(f"{node.name}: create server {name}")
            statement = "CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})"
        elif set(found[0]) != {f"{key}={value}" for key, value in options.items()}:
            changes.append(f"{node.name}: change server {name}")
            statement = "ALTER SERVER {} OPTIONS ({})"
        else:
            statement = ""
        if statement and not check:
            connection.execute(
                sql.SQL(statement).format(sql.Identifier(name), _options(options, found[0] if found else []))
            )
        changes += _mappings(configuration, node, other, connection, check=check)
    return changes


def drop_undeclared(configuration: Configuration, node: Node, connection: Connection, *, check: bool) -> list[str]:
    """Remove the catch-all where it is no longer switched on and empty.  RefusedError while it holds products."""
    table = CATCH_ALL.table
    if configuration.catch_all or not scalar(connection, "SELECT to_regclass(%s) IS NOT NULL", table):
        return []
    here = CATCH_ALL.region == node.name
    with connection.transaction():
        if here:
            if not check:
                # Before it is counted, or a product that is written in between goes with the table.  The whole first,
                # as those lock it who write through it.
                connection.execute(f"LOCK TABLE ONLY Products; LOCK TABLE {table}".encode())
            if held := scalar(connection, f"SELECT count(*) FROM {table}"):  # noqa: S608  our own name
                raise RefusedError(
                    f"{node.name}: {table} holds {held} products and the catch-all is switched off: give them prices "
                    "that a fragment holds, or switch it on"
                )
        if not check:
            connection.execute(f"DROP {'TABLE' if here else 'FOREIGN TABLE'} {table}".encode())
    return [f"{node.name}: drop table {table}, it is empty"]


def _mappings(
    configuration: Configuration, node: Node, other: Node, connection: Connection, *, check: bool
) -> list[str]:
    """Both the shop and the administrator come to the other node as the peer, who may touch fragments and no more."""
    wanted = {"user": PEER, "password": configuration.password(PEER)}
    changes: list[str] = []
    for role in (APPLICATION, "postgres"):
        found = connection.execute(
            "SELECT umoptions FROM pg_user_mappings WHERE srvname = %s AND usename = %s", (server_name(other), role)
        ).fetchone()
        if found and set(found[0] or ()) == {f"{key}={value}" for key, value in wanted.items()}:
            continue
        changes.append(f"{node.name}: keep the way of {role} to {other.name}")
        if not check:
            verb = sql.SQL("ALTER" if found else "CREATE")
            connection.execute(
                sql.SQL("{} USER MAPPING FOR {} SERVER {} OPTIONS ({})").format(
                    verb,
                    sql.Identifier(role),
                    sql.Identifier(server_name(other)),
                    _options(wanted, found[0] if found else []),
                )
            )
    if changes and not check:
        connection.execute(
            sql.SQL("GRANT USAGE ON FOREIGN SERVER {} TO {}").format(
                sql.Identifier(server_name(other)), sql.Identifier(APPLICATION)
            )
        )
    return changes


def _server_options(configuration: Configuration, node: Node) -> dict[str, str]:
    return (
        {
            "host": node.host,
            "port": str(node.port),
            "dbname": DATABASE,
            "fetch_size": str(FETCH),
            "batch_size": str(FETCH),
            "async_capable": "true",
            "connect_timeout": "5",
        }
        | TCP
        | configuration.encrypted(from_node=True)
    )


def _options(wanted: dict[str, str], present: list[str]) -> sql.Composable:
    """Options for CREATE, or for ALTER where some are `present`: those that are not wanted go."""
    there = {entry.partition("=")[0] for entry in present or []}
    kept = [
        sql.SQL("{} {} {}").format(
            sql.SQL(("SET" if key in there else "ADD") if there else ""), sql.Identifier(key), sql.Literal(value)
        )
        for key, value in wanted.items()
    ]
    gone = [sql.SQL("DROP {}").format(sql.Identifier(key)) for key in sorted(there - wanted.keys())]
    return sql.SQL(", ").join([*kept, *gone])
