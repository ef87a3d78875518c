"""The two reports of the reference system on the relational store: customers in detail by their location, and by
their name.

The same questions as `mongodb.aggregations`, and the same answers.  A customer's orders lie on his region's node, so
each node answers for its own and the answers are put one behind the other.
"""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from ..configuration import Configuration
from ..connection import reader

LOCATION = """SELECT c.region, c.country, c.city, count(*)::int AS customers, sum(o.orders)::int AS orders,
        sum(o.spent_cents)::bigint AS spent_cents
    FROM Customer c CROSS JOIN LATERAL (
        SELECT count(*) AS orders, coalesce(sum(total_cents), 0) AS spent_cents FROM Orders
        WHERE (region, customer_id) = (c.region, c.customer_id)) AS o
    WHERE %(country)s::text IS NULL OR c.country = %(country)s
    GROUP BY c.region, c.country, c.city ORDER BY c.region, c.country COLLATE "C", c.city COLLATE "C" """
NAME = """SELECT c.customer_id, c.region, c.customer_name, c.email, c.street, c.postcode, c.city, c.country,
        o.orders::int AS orders, o.spent_cents::bigint AS spent_cents
    FROM Customer c CROSS JOIN LATERAL (
        SELECT count(*) AS orders, coalesce(sum(total_cents), 0) AS spent_cents FROM Orders
        WHERE (region, customer_id) = (c.region, c.customer_id)) AS o
    WHERE c.customer_name = %(name)s ORDER BY c.region, c.customer_id"""


def get_customers_detail_location(
    configuration: Configuration, region: str | None = None, country: str | None = None
) -> list[dict[str, Any]]:
    """Customers, orders and turnover of each city.  With a region one node is asked."""
    return _ask(configuration, LOCATION, region, country=country)


def get_customers_detail_name(
    configuration: Configuration, name: str, region: str | None = None
) -> list[dict[str, Any]]:
    """The customers of this name, with address, orders and turnover.  With a region one node is asked."""
    return _ask(configuration, NAME, region, name=name)


def _ask(configuration: Configuration, query: str, region: str | None, **values: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for node in (
        [configuration.node(region)] if region is not None else sorted(configuration.nodes, key=lambda node: node.name)
    ):
        with reader(configuration, node) as connection, connection.cursor(row_factory=dict_row) as cursor:
            found += cursor.execute(query.encode(), values).fetchall()
    return found
