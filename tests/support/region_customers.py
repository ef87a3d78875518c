"""Customers of a region on real nodes: written on one, cut off, told again, and what each node then says of them."""

from __future__ import annotations

from shardmart.fragments.connection import administrator, rows, scalar
from shardmart.fragments.peers import comparison, status, subscriptions
from tests.support.region_nodes import REGIONS, WAIT_SECONDS, RegionNodes, until

LIVING = "SELECT CASE WHEN deleted THEN NULL ELSE customer_name END FROM Customer_Region WHERE customer_id = %s"
COLUMNS = "(region, customer_id, customer_name, email, city, country)"


def insert(nodes: RegionNodes, region: str, key: str, name: str = "Ada") -> None:
    """A customer, on the node of the region."""
    values = f"('{region}', '{key}', '{name}', 'a@b.cc', 'Rome', 'IT')"
    nodes.run(region, f"INSERT INTO Customer_Region {COLUMNS} VALUES {values}")


def rename(nodes: RegionNodes, on: str, key: str, name: str) -> None:
    """A customer's name, changed on any node."""
    nodes.run(on, f"UPDATE Customer_Region SET customer_name = '{name}' WHERE customer_id = '{key}'")


def forget(nodes: RegionNodes, on: str, key: str) -> None:
    """As if this node had never been told of a customer."""
    statement = f"DELETE FROM Customer_Region WHERE customer_id = '{key}'"
    nodes.run(on, "SET session_replication_role = replica", statement)


def seen(nodes: RegionNodes, key: str) -> dict[str, object]:
    """What each node says of a customer: the name, None for a tombstone, nothing where there is no row."""
    found: dict[str, object] = {}
    for node in nodes.configuration.nodes:
        with administrator(nodes.configuration, node) as connection:
            for (name,) in rows(connection, LIVING, key):
                found[node.name] = name
    return found


def seen_on(nodes: RegionNodes, name: str, key: str) -> list[tuple[object, ...]]:
    """The same of one node, where another may be away."""
    with administrator(nodes.configuration, nodes.node(name)) as connection:
        return rows(connection, LIVING, key)


def everywhere(value: object) -> dict[str, object]:
    """What `seen` says when every node says the same."""
    return dict.fromkeys(REGIONS, value)


def cut(nodes: RegionNodes, node: str, other: str) -> None:
    """`node` is not told by `other` until `mend`."""
    nodes.run(node, f"ALTER SUBSCRIPTION from_{other.lower()} DISABLE")
    with administrator(nodes.configuration, nodes.node(other)) as connection:
        query = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{other.lower()}_to_{node.lower()}'"
        until(f"{other} to stop telling {node}", lambda: not scalar(connection, query))


def mend(nodes: RegionNodes) -> None:
    """Every subscription runs, and what was on its way has come."""
    subscriptions.converge(nodes.configuration)
    status.wait_until_streaming(nodes.configuration, WAIT_SECONDS)
    assert comparison.settle(nodes.configuration, nodes.configuration.nodes, seconds=WAIT_SECONDS)


def different(nodes: RegionNodes) -> int:
    """How many rows are not the same on all nodes."""
    return len(comparison.compare(nodes.configuration, nodes.configuration.nodes).different)


def apart(nodes: RegionNodes, first: str, second: str) -> None:
    """Neither is told by the other until `mend`."""
    cut(nodes, first, second)
    cut(nodes, second, first)


def told(nodes: RegionNodes, node: str, other: str) -> str:
    """How `node` is told by `other`, as the status says it."""
    facts = status.status(nodes.configuration, compare=False, settle_seconds=1)
    return str(next(p["state"] for p in facts["peers"] if (p["from"], p["to"]) == (other, node)))
