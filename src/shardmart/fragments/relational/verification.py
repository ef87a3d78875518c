"""What has to hold of the relational store, looked up row by row; it changes nothing."""

from __future__ import annotations

from ..configuration import Configuration, Node
from ..connection import Connection, reader, rows, scalar
from ..money import CATCH_ALL
from . import plans, products

COLUMNS = (
    "shipment_id, order_id, order_sequence_id, carrier, tracking_number, status, shipped_at, customer_id, "
    "customer_name, street, postcode, city, country"
)
NOT_RECONSTRUCTED = f"""SELECT shipment_id FROM (
        (SELECT {COLUMNS} FROM Shipments EXCEPT ALL SELECT {COLUMNS} FROM Shipments_Reconstructed)
        UNION ALL
        (SELECT {COLUMNS} FROM Shipments_Reconstructed EXCEPT ALL SELECT {COLUMNS} FROM Shipments)
    ) AS difference"""  # noqa: S608  our own names
"""Row by row and both ways, with multiplicity: what the join lost, and what it made up."""
TWICE = "SELECT product_id FROM Products GROUP BY product_id HAVING count(*) > 1"
WITHOUT_DIRECTORY = """SELECT c.customer_id FROM Customer c LEFT JOIN Customer_Region r USING (region, customer_id)
    WHERE (r.customer_name, r.email, r.city, r.country)
        IS DISTINCT FROM (c.customer_name, c.email, c.city, c.country)"""
TOTALS = """SELECT o.order_id FROM Orders o LEFT JOIN LATERAL (
        SELECT sum(quantity * unit_price_cents) AS cents FROM OrderItems i
        WHERE (i.order_id, i.order_sequence_id) = (o.order_id, o.order_sequence_id)) AS lines ON true
    LEFT JOIN Payments p ON (p.order_id, p.order_sequence_id) = (o.order_id, o.order_sequence_id)
    WHERE o.total_cents IS DISTINCT FROM lines.cents OR o.total_cents IS DISTINCT FROM p.amount_cents"""


def verify(configuration: Configuration) -> tuple[list[str], list[str]]:
    """(what was checked, what is wrong), in lines."""
    checked: list[str] = []
    wrong: list[str] = []
    for node in configuration.nodes:
        with reader(configuration, node) as connection:
            count = scalar(connection, "SELECT count(*) FROM Shipments")
            _judge(
                f"{node.name}: the join of both vertical fragments is Shipments, row by row ({count:,} rows)",
                rows(connection, NOT_RECONSTRUCTED), checked, wrong,
            )  # fmt: skip
            _judge(
                f"{node.name}: Customer and Customer_Region say the same",
                rows(connection, WITHOUT_DIRECTORY),
                checked,
                wrong,
            )
            _judge(
                f"{node.name}: lines, payment and total of every order agree", rows(connection, TOTALS), checked, wrong
            )
            _fragments(configuration, node, connection, checked, wrong)
    with reader(configuration, configuration.nodes[0]) as connection:
        _judge("no product is in two fragments", rows(connection, TWICE), checked, wrong)
    for node in configuration.nodes:
        faults = plans.unpruned(configuration, node)
        _judge(
            f"{node.name}: queries that name a price touch the fragments of that price alone",
            [(f,) for f in faults],
            checked,
            wrong,
        )
    return checked, wrong


def _fragments(
    configuration: Configuration, node: Node, connection: Connection, checked: list[str], wrong: list[str]
) -> None:
    for band in configuration.bands:
        if band.region == node.name and band is not CATCH_ALL:
            query = f"SELECT product_id FROM {band.fragment} WHERE NOT ({products.bounds(band)})"  # noqa: S608
            _judge(f"{node.name}: {band.fragment} holds its prices alone", rows(connection, query), checked, wrong)


def _judge(claim: str, exceptions: list[tuple[object, ...]], checked: list[str], wrong: list[str]) -> None:
    if exceptions:
        some = ", ".join(str(row[0]) for row in exceptions[:3])
        wrong.append(f"not so: {claim}: {len(exceptions)} exceptions, such as {some}")
    else:
        checked.append(claim)
