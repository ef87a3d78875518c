"""The topology's replica sets and routers: their members, what sets one apart, how soon a lost primary is noticed.

A set that could elect nobody is refused.  Nothing here touches a server.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_VOTING_MEMBERS = 7
"""MongoDB manual, "Replica Set Members": at most 7 members vote (and at most 50 members in all)."""

MIN_CACHE_MB = 256
"""The smallest `storage.wiredTiger.engineConfig.cacheSizeGB` a mongod accepts is 0.25 (manual, 6.0)."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
MemberPattern = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*\{n\}[A-Za-z0-9-]*$", max_length=60)]
Port = Annotated[int, Field(ge=1024, le=65535)]


class Strict(BaseModel):
    """A part of a topology: no key that is not declared, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Member(Strict):
    """What sets one member apart from its set's defaults."""

    priority: float = Field(1, ge=0, le=1000)
    votes: Literal[0, 1] = 1
    hidden: bool = False
    tags: dict[str, str] = {}
    cache_mb: int | None = Field(None, ge=MIN_CACHE_MB)

    @model_validator(mode="after")
    def _electable_only_with_a_vote(self) -> Self:
        if self.votes == 0 and self.priority != 0:
            raise ValueError("a member without a vote needs `priority: 0`")
        if self.hidden and self.priority != 0:
            raise ValueError("a hidden member needs `priority: 0`")
        return self


class ReplicaSet(Strict):
    """A replica set: its name and its members, as a count or as a list of members that differ."""

    name: Name
    members: list[Member] = Field(max_length=50)
    member_name: MemberPattern | None = None
    port: Port | None = None
    cache_mb: int | None = Field(None, ge=MIN_CACHE_MB)

    @field_validator("members", mode="before")
    @classmethod
    def _count_to_members(cls, value: object) -> object:
        """`members: 3` means three members of the default kind."""
        if isinstance(value, bool) or not isinstance(value, int | list):
            raise ValueError(  # noqa: TRY004  pydantic reports ValueError, not TypeError
                f"expected a count or a list of members, found {value!r}"
            )
        if isinstance(value, list):
            return value
        if value > 50:
            raise ValueError(f"{value} members: a replica set has at most 50")
        return [{}] * value

    def member_names(self) -> list[str]:
        """`shard1-1`, `shard1-2`, … unless `member_name` says otherwise."""
        pattern = self.member_name or self.name.removesuffix("ReplSet") + "-{n}"
        return [pattern.replace("{n}", str(n)) for n in range(1, len(self.members) + 1)]

    @model_validator(mode="after")
    def _members_can_elect(self) -> Self:
        if not self.members:
            raise ValueError("`members` must be at least 1: a replica set without members holds nothing")
        votes = sum(member.votes for member in self.members)
        if votes > MAX_VOTING_MEMBERS:
            raise ValueError(f"`members` has {votes} votes: at most {MAX_VOTING_MEMBERS} members may vote")
        if votes % 2 == 0:
            raise ValueError(f"`members` has {votes} votes: an even number cannot break a tie, use an odd one")
        if not any(member.priority > 0 for member in self.members):
            raise ValueError("`members` has no member with a priority above 0: nobody could become primary")
        return self


class Shard(ReplicaSet):
    """A shard and the zones it serves."""

    zones: list[Name] = []


class Routers(Strict):
    """The routers (mongos)."""

    count: int = Field(1, ge=1, le=50)
    member_name: MemberPattern = "mongos{n}"
    port: Port = 27017

    def member_names(self) -> list[str]:
        """`mongos1`, `mongos2`, …"""
        return [self.member_name.replace("{n}", str(n)) for n in range(1, self.count + 1)]


class Election(Strict):
    """How soon a set notices that its primary is gone, milliseconds. Shorter recovers faster and errs sooner."""

    timeout_ms: int = Field(10_000, ge=500, le=120_000)
    heartbeat_ms: int = Field(2_000, ge=100, le=60_000)

    @model_validator(mode="after")
    def _heartbeats_fit_the_timeout(self) -> Self:
        if self.heartbeat_ms * 2 > self.timeout_ms:
            raise ValueError("`timeout_ms` must be at least twice `heartbeat_ms`, or one late heartbeat elects")
        return self
