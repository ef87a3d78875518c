"""The `rings` of a topology: each a consistent-hash ring of standalone servers, and a store of its membership.

What the nodes are called and which ports they have is decided here alone.  Nothing here touches a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEFAULT_PORT = 28_100
"""Above the ports that shards without one are given, which go up from 27201."""


class RingNode(BaseModel):
    """What sets one node apart: how much it takes beside the others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    weight: int = Field(1, ge=1, le=100)


class Ring(BaseModel):
    """One ring.  `port` is the store's; the nodes have the ports after it, in order."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    nodes: list[RingNode] = Field(min_length=1, max_length=100)
    copies: int = Field(2, ge=1, le=10)
    virtual_nodes: int = Field(1024, ge=1, le=10_000)
    port: int = Field(DEFAULT_PORT, ge=1024, le=65_000)
    cache_mb: int = Field(256, ge=256)

    @field_validator("nodes", mode="before")
    @classmethod
    def _count_to_nodes(cls, value: object) -> object:
        """`nodes: 3` means three nodes of weight 1."""
        if isinstance(value, bool) or not isinstance(value, int | list):
            raise ValueError(f"expected a count or a list of nodes, found {value!r}")  # noqa: TRY004  pydantic's
        return value if isinstance(value, list) else [{}] * min(value, 101)

    @model_validator(mode="after")
    def _copies_fit(self) -> Self:
        if self.copies > len(self.nodes):
            raise ValueError(f"`copies` is {self.copies}, there are {len(self.nodes)} nodes: one copy a node at most")
        return self

    def servers(self) -> Iterator[tuple[str, int]]:
        """Name and port of every server, the store first."""
        yield f"{self.name}-store", self.port
        for number in range(1, len(self.nodes) + 1):
            yield f"{self.name}-{number}", self.port + number

    def as_variable(self) -> dict[str, Any]:
        """As the inventory gives it to the role `ring`."""
        (store, store_port), *nodes = self.servers()
        return {
            "name": self.name,
            "store": {"name": store, "port": store_port},
            "nodes": [
                {"name": name, "port": port, "weight": node.weight}
                for (name, port), node in zip(nodes, self.nodes, strict=True)
            ],
            "copies": self.copies,
            "virtual_nodes": self.virtual_nodes,
            "cache_mb": self.cache_mb,
        }
