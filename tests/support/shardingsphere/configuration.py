"""What ShardingSphere-Proxy is told: the distribution of Citus's flavour, in its own words.

A distributed table lies on one of the servers by the hash of a column, tables that are distributed by the same column
are bound (rows of one value lie together), and a reference table is a broadcast table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shardmart.shop.adapters.postgres.flavours import DISTRIBUTION, REFERENCE

USER = "shop"
LOGBACK = """<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{20} - %msg%n</pattern></encoder>
  </appender>
  <root level="warn"><appender-ref ref="out"/></root>
  <logger name="org.apache.shardingsphere.proxy" level="info"/>
</configuration>
"""


@dataclass(frozen=True)
class Schema:
    """A database of the proxy, which lies on each of the servers in a database of the same name."""

    name: str
    distributed: Mapping[str, str]
    """Table → the column that says on which server a row is."""
    broadcast: Sequence[str]
    """Tables that every server has whole."""


SCHEMAS = (
    Schema("shop", DISTRIBUTION, REFERENCE),
    Schema("catalogue", {"products": "id"}, ("categories",)),
)


def write(
    folder: Path, schemas: Sequence[Schema], ports: Sequence[int], passwords: tuple[str, str], transactions: str = "XA"
) -> None:
    """Write the files of a proxy before servers on these ports; `passwords` are its own user's and the servers'."""
    own, servers = passwords
    server = {
        "mode": {"type": "Memory"},
        "props": {
            "proxy-frontend-database-protocol-type": "PostgreSQL",
            "max-connections-size-per-query": 1,
            "sql-show": False,
        },
    }
    rules = [
        ("AUTHORITY", {"users": [f"{USER}@%:{own}"], "provider": {"type": "ALL_PRIVILEGES_PERMITTED"}}),
        ("TRANSACTION", {"defaultType": transactions, "providerType": "Atomikos"}),
    ]
    files = {"logback.xml": LOGBACK, "server.yaml": _dumped(server) + _tagged(rules)}
    for schema in schemas:
        # Text is compared and stored as what its column is: the proxy sends every parameter as a text of no type.
        sources = {
            f"ds_{number}": {
                "url": f"jdbc:postgresql://127.0.0.1:{port}/{schema.name}?stringtype=unspecified",
                "username": "postgres",
                "password": servers,
                "connectionTimeoutMilliseconds": 5000,
                "maxPoolSize": 16,
                "minPoolSize": 1,
            }
            for number, port in enumerate(ports)
        }
        document = {"schemaName": schema.name, "dataSources": sources}
        files[f"config-{schema.name}.yaml"] = _dumped(document) + _tagged([("SHARDING", sharding(schema, len(ports)))])
    for name, content in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(content)


def sharding(schema: Schema, servers: int) -> dict[str, Any]:
    """The rule of a schema."""
    together: dict[str, list[str]] = {}
    for table, column in schema.distributed.items():
        together.setdefault(column, []).append(table)
    return {
        "tables": {
            table: {
                "actualDataNodes": f"ds_${{0..{servers - 1}}}.{table}",
                "databaseStrategy": {"standard": {"shardingColumn": column, "shardingAlgorithmName": "by_hash"}},
            }
            for table, column in schema.distributed.items()
        },
        "bindingTables": [",".join(tables) for tables in together.values() if len(tables) > 1],
        "broadcastTables": list(schema.broadcast),
        "shardingAlgorithms": {"by_hash": {"type": "HASH_MOD", "props": {"sharding-count": str(servers)}}},
    }


def _dumped(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False)


def _tagged(rules: Sequence[tuple[str, object]]) -> str:
    """Rules are elements with a tag of their own, which safe YAML does not write."""
    found = "rules:\n"
    for name, rule in rules:
        found += f"- !{name}\n" + "".join(f"  {line}\n" for line in _dumped(rule).splitlines())
    return found


def server_of(value: str, servers: int) -> int:
    """On which server the rows of a value lie: HASH_MOD takes the rest of Java's hash of the text."""
    units = value.encode("utf-16-be")
    hashed = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        hashed = (31 * hashed + (high << 8) + low) % 2**32
    return abs(hashed - 2**32 if hashed >= 2**31 else hashed) % servers
