"""One transaction over several nodes: two-phase commit with prepared transactions, and a log that recovers.

postgres_fdw refuses PREPARE TRANSACTION, and commits its nodes one after the other when the local transaction does:
killed in between, one node has the change and another has not.  So this coordinator talks to the nodes itself.

The log is a table on the first of the nodes (the home).  Its row is written before anything is prepared ("begun"),
and the change of "begun" to "commit" is the moment of truth: one statement, on one node.  Whoever finds a row that is
still "begun" after a while changes it to "abort", and only one of the two changes can come first.  A prepared
transaction without a row is rolled back: rows go last (presumed abort).

A guard is a lock that outlives the coordinator: it is held in the home's part, which is committed after all others, so
who takes it next sees what the one before did, on every node.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import errors, sql

from shardmart.errors import RefusedError, ShardmartError

from ..configuration import DATABASE, Configuration, Node
from ..connection import (
    Connection,
    UnknownOutcomeError,
    administrator,
    application,
    connect,
    one_line,
    rows,
    translated,
)

PREFIX = "shardmart"
HOME_LAST = "home-last"
"""The end of the name of a transaction whose home commits last."""
ABANDONED_SECONDS = 30.0
"""A transaction that is "begun" for longer is aborted by `recover`. Only patience, not safety, hangs on it."""

Work = Callable[[Connection], None]
"""What to do on one node: it executes statements and neither commits nor rolls back."""
Observer = Callable[[str], None]
"""Told after each step: begun, guarded, worked:NODE, prepared:NODE, decided, committed:NODE, forgotten."""
Part = tuple[str, Work]
"""The name of a node, and what to do there."""
Guard = tuple[str, Work]
"""The node that is to be the home, and what is done there before all other work: take a lock, look, perhaps refuse."""


@dataclass(frozen=True)
class Committed:
    """It is committed; `pending` nodes were away at the end and are told by `recover`."""

    gid: str
    pending: tuple[str, ...] = ()


@dataclass
class Recovered:
    """What `recover` did, what is left (gid → why), and which nodes could not be asked what they hold."""

    changes: list[str] = field(default_factory=list)
    in_doubt: dict[str, str] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)


def commit(
    configuration: Configuration,
    work: Sequence[Part],
    *,
    guard: Guard | None = None,
    observe: Observer = lambda step: None,
) -> Committed:
    """Do `work` in its order, on all of the nodes or on none; a node may have more than one part of it.

    Who waits for locks on more than one node takes them in the order of the configuration's nodes, or two wait for
    each other where no node sees it.  With a `guard` what it locks on its node is held until all of the nodes have
    committed.  On one node it is an ordinary transaction.  Raises what a `work` raised, RefusedError or
    UnreachableError where nothing was changed, UnknownOutcomeError where the home (or the one node) went away in the
    moment of the decision.
    """
    names = [name for name, _ in work]
    nodes = [configuration.node(name) for name in dict.fromkeys([*(guard or ())[:1], *names])]
    if len(nodes) == 1:
        with application(configuration, nodes[0]) as connection:
            if guard:
                guard[1](connection)
            for _, do in work:
                do(connection)
        return Committed("")
    home = nodes[0]
    gid = f"{PREFIX}:{home.name}:{secrets.token_hex(8)}" + (f":{HOME_LAST}" if guard else "")
    with ExitStack() as stack:
        log = stack.enter_context(_connected(configuration, home))
        connections = [(node, stack.enter_context(_connected(configuration, node))) for node in nodes]
        with one_line(home):
            log.execute(
                "INSERT INTO Coordinator_Log (gid, participants) VALUES (%s, %s)", (gid, [node.name for node in nodes])
            )
        observe("begun")
        try:
            _prepare(gid, work, guard, connections, observe)
        except BaseException:
            _abort(gid, log, connections)
            raise
        _decide(gid, home, log, connections)
        observe("decided")
        pending = _commit_prepared(gid, connections, observe, home_last=guard is not None)
        if not pending:
            with suppress(psycopg.Error):  # `recover` forgets it otherwise
                log.execute("DELETE FROM Coordinator_Log WHERE gid = %s", (gid,))
            observe("forgotten")
    return Committed(gid, pending)


def _prepare(
    gid: str,
    work: Sequence[Part],
    guard: Guard | None,
    connections: list[tuple[Node, Connection]],
    observe: Observer,
) -> None:
    for node, connection in connections:
        with one_line(node):
            connection.execute("BEGIN")
    if guard:
        home, connection = connections[0]
        with one_line(home):
            guard[1](connection)
        observe("guarded")
    by_name = {node.name: (node, connection) for node, connection in connections}
    for name, do in work:
        node, connection = by_name[name]
        with one_line(node):
            do(connection)
        observe(f"worked:{name}")
    for node, connection in connections:
        with one_line(node):
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(gid)))
        observe(f"prepared:{node.name}")


def _decide(gid: str, home: Node, log: Connection, connections: list[tuple[Node, Connection]]) -> None:
    """The moment of truth."""
    statement = "UPDATE Coordinator_Log SET decision = 'commit' WHERE gid = %s AND decision = 'begun'"
    try:
        decided = log.execute(statement, (gid,)).rowcount
    except psycopg.Error as error:
        raise UnknownOutcomeError(
            f"{home.name} went away while {gid} was decided: `shardmart fragments recover` ({translated(home, error)})"
        ) from None
    if not decided:
        _abort(gid, log, connections)
        raise RefusedError(f"{gid} took longer than others waited, and was aborted: nothing was changed, try again")


def _commit_prepared(
    gid: str, connections: list[tuple[Node, Connection]], observe: Observer, *, home_last: bool
) -> tuple[str, ...]:
    """Commit everywhere; the names of nodes that are not told, for the home may have to wait for them."""
    if not home_last:
        return tuple(_told_to_commit(gid, connections, observe))
    pending = tuple(_told_to_commit(gid, connections[1:], observe))
    if pending:
        return (*pending, connections[0][0].name)
    return tuple(_told_to_commit(gid, connections[:1], observe))


def _told_to_commit(gid: str, connections: list[tuple[Node, Connection]], observe: Observer) -> Iterator[str]:
    """Commit on these nodes; the names of those that could not be told."""
    for node, connection in connections:
        try:
            connection.execute(sql.SQL("COMMIT PREPARED {}").format(sql.Literal(gid)))
        except errors.UndefinedObject:
            pass  # `recover` was quicker
        except psycopg.Error:
            yield node.name
            continue
        observe(f"committed:{node.name}")


def _abort(gid: str, log: Connection, connections: list[tuple[Node, Connection]]) -> None:
    """Undo as far as the nodes answer; the rest is presumed aborted, and `recover` undoes it."""
    told = True
    for _, connection in connections:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        try:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        except errors.UndefinedObject:
            pass
        except psycopg.Error:
            told = False
    if told:
        with suppress(psycopg.Error):
            log.execute("DELETE FROM Coordinator_Log WHERE gid = %s", (gid,))


@contextmanager
def _connected(configuration: Configuration, node: Node) -> Iterator[Connection]:
    with one_line(node):
        connection = connect(configuration, node, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


def in_doubt(configuration: Configuration, node: Node) -> list[tuple[str, float]]:
    """The transactions of ours that are prepared on a node, and for how many seconds."""
    query = """SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float FROM pg_prepared_xacts
        WHERE database = %s AND gid LIKE %s ORDER BY 1"""
    with administrator(configuration, node) as connection:
        return [(gid, age) for gid, age in rows(connection, query, DATABASE, f"{PREFIX}:%")]


def recover(configuration: Configuration, *, abandoned_seconds: float = ABANDONED_SECONDS) -> Recovered:
    """Finish what coordinators that died left behind, as far as the nodes answer.  Safe at any time, by anybody,
    again."""
    done = Recovered()
    logs: dict[str, dict[str, str]] = {}
    prepared: dict[str, list[tuple[str, float]]] = {}
    for node in configuration.nodes:
        try:
            # Prepared first: a row that is gone when we look for it then was there to see, or was finished.
            prepared[node.name] = in_doubt(configuration, node)
        except ShardmartError:
            done.away.append(node.name)
    participants: dict[str, list[str]] = {}
    for name in prepared:
        logs[name] = _read_log(configuration, configuration.node(name), abandoned_seconds, participants, done)
    held = [(name, gid, age) for name, gids in prepared.items() for gid, age in gids]
    for name, gid, age in sorted(held, key=lambda part: _waits_for_others(*part[:2])):
        if _waits_for_others(name, gid) and logs[name].get(gid) == "commit":
            missing = _not_told(configuration, gid, [other for other in participants[gid] if other != name])
            if missing:
                done.in_doubt[gid] = f"committed, and kept on {name} until {', '.join(missing)} has it, which is away"
                continue
        _settle(configuration, name, gid, age, logs, abandoned_seconds, done)
    _forget(configuration, logs, participants, done)
    return done


def _waits_for_others(name: str, gid: str) -> bool:
    """Whether this node is the home of a transaction whose home commits last."""
    return gid.endswith(f":{HOME_LAST}") and gid.split(":")[1] == name


def _not_told(configuration: Configuration, gid: str, names: list[str]) -> list[str]:
    """Which of these nodes still have it prepared, or do not answer; each is asked anew."""
    waiting = []
    for name in names:
        try:
            if any(gid == found for found, _ in in_doubt(configuration, configuration.node(name))):
                waiting.append(name)
        except ShardmartError:
            waiting.append(name)
    return waiting


def _read_log(
    configuration: Configuration, node: Node, abandoned: float, participants: dict[str, list[str]], done: Recovered
) -> dict[str, str]:
    """The decisions of one home, after aborting what was left undecided."""
    with administrator(configuration, node) as connection:
        statement = """UPDATE Coordinator_Log SET decision = 'abort' WHERE decision = 'begun'
            AND began_at <= clock_timestamp() - make_interval(secs => %s) RETURNING gid"""
        done.changes += [
            f"{node.name}: {gid} was never decided: abort" for (gid,) in rows(connection, statement, abandoned)
        ]
        found = rows(connection, "SELECT gid, participants, decision FROM Coordinator_Log")
    participants.update({gid: nodes for gid, nodes, _ in found})
    return {gid: decision for gid, _, decision in found}


def _settle(
    configuration: Configuration,
    name: str,
    gid: str,
    age: float,
    logs: dict[str, dict[str, str]],
    abandoned: float,
    done: Recovered,
) -> None:
    """Commit or roll back one prepared transaction, as its home decided."""
    home = gid.split(":")[1]
    if home not in logs:
        done.in_doubt[gid] = f"prepared on {name} for {age:.0f} s; its coordinator's log is on {home}, which is away"
        return
    decision = logs[home].get(gid, "abort")
    if decision == "begun":
        done.in_doubt[gid] = f"prepared on {name}, at work for {age:.0f} s; aborted when {abandoned:g} s have passed"
        return
    verb = "COMMIT" if decision == "commit" else "ROLLBACK"
    node = configuration.node(name)
    with administrator(configuration, node) as connection, suppress(errors.UndefinedObject):
        connection.execute(sql.SQL("{} PREPARED {}").format(sql.SQL(verb), sql.Literal(gid)))
        done.changes.append(f"{name}: {verb.lower()} prepared {gid}")


def _forget(
    configuration: Configuration, logs: dict[str, dict[str, str]], participants: dict[str, list[str]], done: Recovered
) -> None:
    """Remove the decisions that every participant has carried out.

    Each is asked anew: nothing is prepared after a decision, so what is not prepared now never will be.  What was
    seen before the log was read proves nothing: a participant may have prepared, and the decision may have fallen, in
    between.
    """
    for home, decisions in logs.items():
        for gid, decision in decisions.items():
            if decision == "begun":
                continue
            if _not_told(configuration, gid, participants[gid]):
                continue  # also where a participant is away: it has to be told when it is back
            with administrator(configuration, configuration.node(home)) as connection:
                connection.execute("DELETE FROM Coordinator_Log WHERE gid = %s AND decision <> 'begun'", (gid,))
                done.changes.append(f"{home}: {gid} is finished ({decision})")
