"""Connections to the nodes with psycopg 3: as whom, how long to wait, and what an error says in one line.

Nothing waits for ever: not for a connection, not for an answer, not for a lock.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from shardmart.errors import FAILED, RefusedError, ShardmartError, UnreachableError

from .configuration import ADMIN, APPLICATION, DATABASE, Configuration, Node

T = TypeVar("T")
CONNECT_SECONDS = 5
ANSWER_SECONDS = 60.0
"""The longest silence before an answer, or within it.  A server that is stopped (SIGSTOP) still has its packets
acknowledged by its kernel, so no time-out of TCP ends this wait."""
LOCK_SECONDS = 10
"""The longest that a statement waits for a lock.  Two transactions that wait for each other on two nodes are a
deadlock that no node sees; a prepared transaction keeps its locks until `recover`."""
TCP = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "20000"}
"""A way that was cut is noticed after 25 s by who waits for an answer, after 20 (in milliseconds) by who sends."""
UNLOGGED = "-c log_min_error_statement=panic -c log_statement=none -c log_min_duration_statement=-1"
"""The administrator's statements hold passwords of peers, and a server logs those that fail or are slow whole."""


class UnknownOutcomeError(ShardmartError):
    """Nobody knows yet whether it committed; the message says how to find out."""

    exit_code = FAILED


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up, and is closed, when nothing comes for `answer_seconds` of what it waits for."""

    answer_seconds: float | None = None
    """ANSWER_SECONDS unless somebody says otherwise."""

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **more: Any) -> T:
        """See psycopg: every wait for the server comes through here."""
        return super().wait(self._in_time(gen), *arguments, **more)

    def _in_time(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        seconds = ANSWER_SECONDS if self.answer_seconds is None else self.answer_seconds
        end = time.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    end = time.monotonic() + seconds
                elif time.monotonic() > end:
                    self.pgconn.finish()  # or the rollback would wait as long
                    raise psycopg.OperationalError(f"no answer for {seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            answer: T = done.value
            return answer


def connect(
    configuration: Configuration,
    node: Node,
    user: str = APPLICATION,
    *,
    database: str = DATABASE,
    autocommit: bool = False,
) -> Connection:
    """A connection to a node; the caller closes it.  Raises what psycopg raises: see `one_line`."""
    administers = f" {UNLOGGED}" if user == ADMIN else ""
    return Connection.connect(
        make_conninfo(**TCP, **configuration.encrypted()),
        host=node.host,
        port=node.port,
        user=user,
        password=configuration.password(user),
        dbname=database,
        connect_timeout=CONNECT_SECONDS,
        # A server looks now and then whether who asked is still there: a statement that was given up ends there, too.
        options=f"-c lock_timeout={LOCK_SECONDS}s -c client_connection_check_interval=10s{administers}",
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
    """A connection of the shop that writes, in one transaction that is committed at the end of the block; failures are
    ours, in one line.

    UnknownOutcomeError where the node goes away while it commits.
    """
    with one_line(node), connect(configuration, node) as connection:
        yield connection
        try:
            connection.commit()
        except psycopg.Error as error:
            if not is_away(error):
                raise
            raise UnknownOutcomeError(
                f"{node.name} went away while it committed: what was to be written is there, or is not: look before "
                f"you do it again ({_said(error)})"
            ) from None


@contextmanager
def reader(configuration: Configuration, node: Node) -> Iterator[Connection]:
    """A connection of the shop that only reads, in one transaction; failures are ours, in one line."""
    with one_line(node):
        connection = connect(configuration, node)
        try:
            connection.read_only = True
            yield connection
        finally:
            connection.close()


@contextmanager
def one_line(node: Node) -> Iterator[None]:
    """Turn what psycopg raises into our exceptions."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(node, error) from None


def translated(node: Node, error: psycopg.Error) -> ShardmartError:
    """What psycopg raised, as one of ours: the node does not answer, or it refused."""
    said = _said(error)
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
        return RefusedError(
            f"{node.name}: another transaction holds what this one needs: nothing was changed, try again; "
            f"`shardmart fragments recover` ends those whose coordinator died ({said.partition(' CONTEXT:')[0]})"
        )
    if (
        isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification)
        or "password authentication" in said
    ):
        return UnreachableError(f"{node.name}: the password is not accepted; was secrets/ replaced? ({said})")
    if "SSL" in said or "certificate" in said:
        return UnreachableError(
            f"{node.name} ({node.host}:{node.port}) and this client do not agree on TLS: `make fragments` ({said})"
        )
    if str(error.sqlstate).startswith("08"):  # said by the node: it is a client itself, of a peer or a foreign server
        return UnreachableError(f"{node.name} does not reach another node: {said}")
    if is_away(error):
        return UnreachableError(
            f"{node.name} ({node.host}:{node.port}) does not answer: {said}: is it down? `make fragments`"
        )
    return RefusedError(f"{node.name}: {error.diag.message_primary or said}")


def _said(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def is_away(error: psycopg.Error) -> bool:
    """Whether the connection is no more, and not only the transaction.  psycopg files a lock that was not given, a
    deadlock and a peer that the node itself does not reach under OperationalError, too."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith("57P") or isinstance(error, errors.TooManyConnections)


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
