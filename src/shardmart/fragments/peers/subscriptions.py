"""Who is told what: a publication on every node, a subscription of every node to every other one, and mending both.

Changes go from the node where a client made them straight to each peer (`origin = none`: what a node was told itself
it does not tell again).  So a peer that was lost after it told only one node is never spoken for: that is what
`repair` is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shardmart.errors import RefusedError, ShardmartError

from ..configuration import DATABASE, PEER, Configuration, Node
from ..connection import Connection, administrator, one_line, scalar

PUBLICATION = "customer_region"
REPAIR_ORIGIN = "shardmart_repair"
LOCK, LOCK_SECONDS = 0x5AA2D_F2A6, 120
"""Of pg_advisory_lock, in the shop's database: who has it may make, drop and change subscriptions."""
OPTIONS = "origin = none, copy_data = false, disable_on_error = false, streaming = off"
"""copy_data = false: the first rows, and all that was missed, come by the repair, which compares."""


def subscription(other: Node) -> str:
    """The subscription to `other`, on the node that has it."""
    return f"from_{other.word}"


def slot(node: Node, other: Node) -> str:
    """The slot on `other` that keeps what `node` has not been told yet."""
    return f"{other.word}_to_{node.word}"


def pairs(nodes: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Every node with every node that it is told by."""
    for node in nodes:
        for other in nodes:
            if node != other:
                yield node, other


def converge(
    configuration: Configuration,
    nodes: Sequence[Node] | None = None,
    *,
    check: bool = False,
    failed: list[str] | None = None,
) -> list[str]:
    """Have publications and subscriptions among `nodes` (all when None): missing ones made, stopped ones started,
    those whose slot is lost made anew.  Returns what was done.

    A subscription that cannot be mended becomes a line in `failed`, and the others are; without it, an error.
    """
    nodes = configuration.nodes if nodes is None else nodes
    with _alone(configuration, nodes):
        return _converge(configuration, nodes, check=check, failed=failed)


def not_mended(node: Node, other: Node, error: ShardmartError) -> str:
    """A line about a subscription that could not be mended."""
    return f"{node.name}: subscription to {other.name}: not mended: {error}"


@contextmanager
def _alone(configuration: Configuration, nodes: Sequence[Node]) -> Iterator[None]:
    """Wait until nobody else works on the subscriptions: the timer's first repair may meet `apply` on Kubernetes.

    The first of the nodes keeps the lock, and gives it back however this process ends.  RefusedError after
    LOCK_SECONDS.
    """
    if not nodes:
        yield
        return
    with administrator(configuration, nodes[0]) as connection:
        connection.answer_seconds = LOCK_SECONDS + 10
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS}s")))
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        except errors.LockNotAvailable:
            raise RefusedError(
                f"{nodes[0].name}: waited {LOCK_SECONDS} s for another apply or repair, which works on the "
                "subscriptions: try again"
            ) from None
        yield


def _converge(
    configuration: Configuration, nodes: Sequence[Node], *, check: bool, failed: list[str] | None
) -> list[str]:
    changes: list[str] = []
    for node in nodes:
        with administrator(configuration, node) as connection:
            if not scalar(connection, "SELECT count(*) FROM pg_publication WHERE pubname = %s", PUBLICATION):
                changes.append(f"{node.name}: publish Customer_Region")
                if not check:
                    connection.execute(
                        "CREATE PUBLICATION customer_region FOR TABLE Customer_Region WITH (publish = 'insert, update')"
                    )
            if not scalar(connection, "SELECT count(*) FROM pg_replication_origin WHERE roname = %s", REPAIR_ORIGIN):
                changes.append(f"{node.name}: create replication origin {REPAIR_ORIGIN}")
                if not check:
                    connection.execute("SELECT pg_replication_origin_create(%s)", (REPAIR_ORIGIN,))
    for node, other in pairs(nodes):
        try:
            with _both(configuration, node, other) as (here, there):
                changes += _one(configuration, node, other, here, there, check=check)
        except ShardmartError as error:
            if failed is None:
                raise
            failed.append(not_mended(node, other, error))
    return changes


@contextmanager
def _both(configuration: Configuration, node: Node, other: Node) -> Iterator[tuple[Connection, Connection]]:
    """Connections to a node and to its peer; what fails is said of the node, but for what names the peer."""
    with administrator(configuration, node) as here, administrator(configuration, other) as there, one_line(node):
        yield here, there


def _one(
    configuration: Configuration, node: Node, other: Node, here: Connection, there: Connection, *, check: bool
) -> list[str]:
    """Have the subscription of `node` to `other`."""
    name, told = subscription(other), f"{node.name}: subscription to {other.name}"
    query = "SELECT subenabled, subconninfo FROM pg_subscription WHERE subname = %s"
    found = here.execute(query, (name,)).fetchone()
    with one_line(other):
        keeps = there.execute(
            "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = %s", (slot(node, other),)
        ).fetchone()
    if found is None:
        if not check:
            _create(configuration, node, other, here, there)
        return [f"{told}: create"]
    if keeps is None or keeps[0]:
        why = "its slot is lost" if keeps else "its slot is missing"
        if not check:
            _drop(name, here)
            _create(configuration, node, other, here, there)
        return [f"{told}: make anew, {why}"]
    changes = []
    if conninfo_to_dict(found[1]) != conninfo_to_dict(_way(configuration, other)):
        changes.append(f"{told}: change the connection")
        if not check:
            statement = sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}")
            here.execute(statement.format(sql.Identifier(name), sql.Literal(_way(configuration, other))))
    if not found[0]:
        changes.append(f"{told}: enable")
        if not check:
            here.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
    return changes


@dataclass(frozen=True)
class Standing:
    """How a subscription stands at its node: whether it is enabled, whether its worker runs, how often it failed."""

    enabled: bool
    running: bool
    errors: int


def standing(here: Connection, other: Node) -> Standing | None:
    """How a node's subscription to `other` stands; None without one."""
    # A worker that is gone has no line of its own in the view.
    query = """SELECT s.subenabled, w.pid IS NOT NULL, coalesce(x.apply_error_count, 0)
        FROM pg_subscription s
        LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.worker_type = 'apply'
        LEFT JOIN pg_stat_subscription_stats x ON x.subid = s.oid WHERE s.subname = %s"""
    found = here.execute(query, (subscription(other),)).fetchone()
    return Standing(*found) if found else None


def make_anew(configuration: Configuration, node: Node, other: Node) -> str:
    """Begin the subscription of `node` to `other` from now: what stopped it is left behind, and the repair brings the
    rows.

    ALTER SUBSCRIPTION … SKIP would drop a whole transaction without a word about which rows it had.
    """
    with _both(configuration, node, other) as (here, there):
        _drop(subscription(other), here)
        _create(configuration, node, other, here, there)
    return f"{node.name}: subscription to {other.name}: make anew, it could not go on"


def reaches(here: Connection, other: Node) -> bool:
    """Whether a node can connect to `other` as its subscription does, which must be enabled."""
    try:
        # The one statement that has the node connect and changes nothing: all tables are subscribed to.
        refresh = sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)")
        here.execute(refresh.format(sql.Identifier(subscription(other))))
    except errors.ConnectionFailure:
        return False
    return True


def _drop(name: str, here: Connection) -> None:
    known = sql.Identifier(name)
    here.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(known))
    here.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(known))
    here.execute(sql.SQL("DROP SUBSCRIPTION {}").format(known))


def _create(configuration: Configuration, node: Node, other: Node, here: Connection, there: Connection) -> None:
    kept = slot(node, other)
    # Left by a run that was killed, or of the subscription that was dropped.
    with one_line(other):
        there.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s AND active",
            (kept,),
        )
        there.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (kept,)
        )
    statement = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH ({}, slot_name = {})")
    here.execute(
        statement.format(
            sql.Identifier(subscription(other)),
            sql.Literal(_way(configuration, other)),
            sql.Identifier(PUBLICATION),
            sql.SQL(OPTIONS),
            sql.Literal(kept),
        )
    )


def _way(configuration: Configuration, other: Node) -> str:
    """How a node reaches another. It holds the password: PostgreSQL shows it to superusers alone."""
    return make_conninfo(
        host=other.host,
        port=other.port,
        dbname=DATABASE,
        user=PEER,
        password=configuration.password(PEER),
        connect_timeout=5,
        **configuration.encrypted(from_node=True),
    )


def reachable(configuration: Configuration) -> dict[Node, str | None]:
    """Every node, with what is wrong where it does not answer."""
    found: dict[Node, str | None] = {}
    for node in configuration.nodes:
        try:
            with administrator(configuration, node) as connection:
                connection.execute("SELECT 1")
            found[node] = None
        except ShardmartError as error:
            found[node] = str(error)
    return found
