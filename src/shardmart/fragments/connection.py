"""Connections to the nodes with psycopg 3: as whom, how long to wait, and what an error says in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from shardmart.errors import RefusedError, ShardmartError, UnreachableError

from .configuration import ADMIN, APPLICATION, DATABASE, Configuration, Node

Connection = psycopg.Connection[tuple[Any, ...]]
CONNECT_SECONDS = 5
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)


def connect(
    configuration: Configuration,
    node: Node,
    user: str = APPLICATION,
    *,
    database: str = DATABASE,
    autocommit: bool = False,
) -> Connection:
    """A connection to a node; the caller closes it.  Raises what psycopg raises: see `one_line`."""
    return psycopg.connect(
        make_conninfo(**configuration.encrypted()),
        host=node.host,
        port=node.port,
        user=user,
        password=configuration.password(user),
        dbname=database,
        connect_timeout=CONNECT_SECONDS,
        # A peer that hangs is noticed: a connection without an answer ends after so many milliseconds.
        tcp_user_timeout=20_000,
        application_name="shardmart-fragments",
        autocommit=autocommit,
    )


@contextmanager
def administrator(configuration: Configuration, node: Node, *, database: str = DATABASE) -> Iterator[Connection]:
    """A connection of the administrator, each statement by itself; failures are ours, in one line."""
    with one_line(node), connect(configuration, node, ADMIN, database=database, autocommit=True) as connection:
        yield connection


@contextmanager
def application(configuration: Configuration, node: Node) -> Iterator[Connection]:
    """A connection of the shop, one transaction that ends with the block; failures are ours, in one line."""
    with one_line(node), connect(configuration, node) as connection:
        yield connection


@contextmanager
def one_line(node: Node) -> Iterator[None]:
    """Turn what psycopg raises into our exceptions."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(node, error) from None


def translated(node: Node, error: psycopg.Error) -> ShardmartError:
    """What psycopg raised, as one of ours: the node does not answer, or it refused."""
    said = " ".join(str(error).split()) or type(error).__name__
    if (
        isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification)
        or "password authentication" in said
    ):
        return UnreachableError(f"{node.name}: the password is not accepted; was secrets/ replaced? ({said})")
    if "SSL" in said or "certificate" in said:
        return UnreachableError(
            f"{node.name} ({node.host}:{node.port}) and this client do not agree on TLS: `make fragments` ({said})"
        )
    if error.sqlstate is None or isinstance(error, AWAY):
        return UnreachableError(
            f"{node.name} ({node.host}:{node.port}) does not answer: {said}: is it down? `make fragments`"
        )
    return RefusedError(f"{node.name}: {error.diag.message_primary or said}")


def identifier(name: str) -> sql.Identifier:
    """A name as PostgreSQL folds it when it is written without quotes."""
    return sql.Identifier(name.lower())


def rows(connection: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The answer to a question; `values` fill its %s."""
    return connection.execute(query.encode(), values or None).fetchall()


def scalar(connection: Connection, query: str, *values: object) -> Any:
    """The one value of an answer of one row."""
    found = connection.execute(query.encode(), values or None).fetchone()
    assert found is not None, query
    return found[0]
