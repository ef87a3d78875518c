"""Where the engines behind PostgreSQL's protocol differ, and nowhere else.

Every statement outside this module is understood by all three.  That leaves out: functions that are not immutable
where Citus evaluates them on another node (DO UPDATE SET, RETURNING: the store's time is asked for and passed on),
advisory locks, LISTEN, `xid8` and sequences.  Not run here: neither CockroachDB nor Citus can be installed from a
package registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

DISTRIBUTION: Mapping[str, str] = {
    "orders": "id",
    "stock": "id",
    "reservations": "id",
    "payments": "id",
    "notifications": "id",
    "events": "place",
    "event_places": "place",
    "parked_events": "key",
    "idempotency_keys": "key",
    "lanes": "service",
    "instances": "service",
    "commits": "id",
    "products": "id",
    "customers": "id",
}
"""Table → the column that says which node has a row.  An event and the number it got lie together, or one could be
committed before the other."""
REFERENCE = ("schema_versions",)
"""Tables that every node has."""
BY_REGION = ("orders", "reservations", "payments", "notifications", "events", "idempotency_keys", "customers")
"""Tables whose rows have a region, and live there."""

Step = tuple[str, str]
"""A question whose answer says that it was done, and the statement that does it."""


@dataclass(frozen=True)
class Flavour:
    """What an engine wants in its own words.  Statements of `session` are run once on each connection."""

    text: str
    """The type of ids: compared byte by byte, whatever the database's locale."""
    session: tuple[str, ...] = ()
    lock: str | None = None
    """Keeps others from making tables at the same time, until the connection ends."""
    placed: Callable[[str, Sequence[str]], list[Step]] = lambda database, regions: []
    """Where rows live, for a database and the data model's regions."""


def _on_citus(database: str, regions: Sequence[str]) -> list[Step]:
    del database, regions
    known = "SELECT 1 AS one FROM pg_dist_partition WHERE logicalrelid = '{}'::regclass"
    steps = [(known.format(table), f"SELECT create_reference_table('{table}')") for table in REFERENCE]
    together: dict[str, str] = {}
    for table, column in DISTRIBUTION.items():
        beside = f", colocate_with => '{together[column]}'" if column in together else ", colocate_with => 'none'"
        together.setdefault(column, table)
        steps.append((known.format(table), f"SELECT create_distributed_table('{table}', '{column}'{beside})"))
    return steps


def _on_cockroach(database: str, regions: Sequence[str]) -> list[Step]:
    """The cluster's regions (`--locality=region=…`) are called as the data model's, in small letters.

    One region alone needs no placement.
    """
    if len(regions) < 2:
        return []
    first = regions[0].lower()
    steps = [
        ("SELECT 1 AS one FROM [SHOW REGIONS FROM DATABASE] WHERE \"primary\"", f'SET PRIMARY REGION "{first}"'),
        *(
            (f"SELECT 1 AS one FROM [SHOW REGIONS FROM DATABASE] WHERE region = '{region.lower()}'",  # noqa: S608
             f'ADD REGION IF NOT EXISTS "{region.lower()}"')
            for region in regions[1:]
        ),
    ]  # fmt: skip
    made = [(done, f"ALTER DATABASE {database} {change}") for done, change in steps]
    cases = " ".join(f"WHEN '{region}' THEN '{region.lower()}'" for region in regions)
    for table in BY_REGION:
        known = f"SELECT 1 AS one FROM information_schema.columns WHERE table_name = '{table}' AND column_name = 'home'"  # noqa: S608
        column = f"home crdb_internal_region NOT NULL AS (CASE region {cases} ELSE '{first}' END) STORED"
        made.append((known, f"ALTER TABLE {table} ADD COLUMN {column}"))
        by_row = f"SELECT 1 AS one FROM [SHOW TABLES] WHERE table_name = '{table}' AND locality LIKE 'REGIONAL BY ROW%'"  # noqa: S608
        made.append((by_row, f"ALTER TABLE {table} SET LOCALITY REGIONAL BY ROW AS home"))
    return made


_OF_POSTGRESQL = (
    # A client that was killed while it waits for a lock is noticed, and its own locks end.
    "SET client_connection_check_interval = 1000",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
)

FLAVOURS: Mapping[str, Flavour] = {
    "plain": Flavour('text COLLATE "C"', _OF_POSTGRESQL, "SELECT pg_advisory_lock(1397247056)"),
    "citus": Flavour('text COLLATE "C"', _OF_POSTGRESQL, "SELECT pg_advisory_lock(1397247056)", _on_citus),
    "cockroach": Flavour("text", placed=_on_cockroach),
}


def session(flavour: str, seconds: float) -> str:
    """What a connection is told first.  Nobody waits, and no transaction lives, much longer than a request."""
    limit = int(seconds * 1000)
    return "; ".join(
        (
            f"SET statement_timeout = {limit}",
            f"SET lock_timeout = {limit}",
            f"SET idle_in_transaction_session_timeout = {limit}",
            f"SET transaction_timeout = {2 * limit}",
            "SET TIME ZONE 'UTC'",
            *FLAVOURS[flavour].session,
        )
    )
