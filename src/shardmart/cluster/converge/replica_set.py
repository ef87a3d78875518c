"""Form a replica set and keep it as declared: initiate, elect at once, reconfigure one safe step at a time.

It never initiates a set of which any member already has a
configuration, never removes a member unless told to, and returns only when the set has a writable primary and
every declared member is PRIMARY or SECONDARY.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from ..description import Election, ReplicaSet, Role
from ..errors import ClusterError, DeadlineError, SecretMissingError
from ..protocol import codes
from ..protocol.connection import (
    Client,
    Credentials,
    Deadline,
    Document,
    connect,
    describe,
    hello,
    is_code,
)
from .outcome import Outcome

HEALTHY_STATES = {"PRIMARY", "SECONDARY"}
# Errors of a reconfiguration that a moment later may not come again.
PASSING_ERRORS = (
    codes.CONFIGURATION_IN_PROGRESS,
    codes.PRIMARY_STEPPED_DOWN,
    codes.CURRENT_CONFIG_NOT_COMMITTED_YET,
    codes.NOT_WRITABLE_PRIMARY,
    codes.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
    codes.NOT_PRIMARY_NO_SECONDARY_OK,
    codes.NOT_PRIMARY_OR_SECONDARY,
)
# A step-up is refused while the other members have not heard of the configuration (CommandFailed) or an election is
# under way (OperationFailed).
ELECTION_NOT_YET = (
    codes.OPERATION_FAILED,
    codes.COMMAND_FAILED,
    codes.NOT_WRITABLE_PRIMARY,
    codes.NOT_PRIMARY_OR_SECONDARY,
)


@dataclass(frozen=True)
class MemberSpec:
    """One declared member; `host` is "host:port" as the other members reach it."""

    host: str
    priority: float = 1
    votes: int = 1
    hidden: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> Document:
        """What the configuration document says of this member, apart from its `_id`."""
        return {
            "host": self.host,
            "priority": float(self.priority),
            "votes": self.votes,
            "hidden": self.hidden,
            "tags": dict(self.tags),
        }


@dataclass(frozen=True)
class ReplicaSetSpec:
    """A declared replica set; times in milliseconds."""

    name: str
    members: tuple[MemberSpec, ...]
    config_server: bool = False
    election_timeout_ms: int = 10_000
    heartbeat_ms: int = 2_000
    allow_removal: bool = False

    @classmethod
    def of(cls, declared: ReplicaSet, election: Election, *, allow_removal: bool = False) -> ReplicaSetSpec:
        """A replica set as a description has it."""
        return cls(
            name=declared.name,
            members=tuple(MemberSpec(m.address, m.priority, m.votes, m.hidden, m.tags) for m in declared.members),
            config_server=declared.role is Role.CONFIG,
            election_timeout_ms=election.timeout_ms,
            heartbeat_ms=election.heartbeat_ms,
            allow_removal=allow_removal,
        )

    def first_configuration(self) -> Document:
        """The document of replSetInitiate."""
        document: Document = {
            "_id": self.name,
            "version": 1,
            "members": [{"_id": i} | member.fields() for i, member in enumerate(self.members)],
            "settings": self.settings(),
        }
        if self.config_server:
            document["configsvr"] = True
        return document

    def settings(self) -> Document:
        """The settings this specification declares; the server's other settings are left alone."""
        return {
            "electionTimeoutMillis": self.election_timeout_ms,
            "heartbeatIntervalMillis": self.heartbeat_ms,
        }


@dataclass(frozen=True)
class Step:
    """One reconfiguration: the whole new configuration and, in words, what it changes."""

    configuration: Document
    change: str


def next_step(current: Document, spec: ReplicaSetSpec) -> Step | None:
    """The next safe reconfiguration from `current` towards `spec`, None when there is nothing to change.

    MongoDB refuses to add, remove or change the vote of more than one voting member at a time (manual,
    "replSetReconfig"); what changes no vote goes first and in one step, then one voting change per step.
    Raises ClusterError when a member would have to be removed and `allow_removal` is off.
    """
    declared = {member.host: member for member in spec.members}
    present = {member["host"]: member for member in current["members"]}

    harmless = deepcopy(current)
    changes: list[str] = []
    for member in harmless["members"]:
        wanted = declared.get(member["host"])
        if wanted is None or wanted.votes != member.get("votes", 1):
            continue
        for key, value in wanted.fields().items():
            if member.get(key) != value:
                changes.append(f"{member['host']}: {key} {member.get(key)} -> {value}")
                member[key] = value
    for key, value in spec.settings().items():
        if harmless.setdefault("settings", {}).get(key) != value:
            changes.append(f"settings.{key} {harmless['settings'].get(key)} -> {value}")
            harmless["settings"][key] = value
    if changes:
        return _step(harmless, ", ".join(changes))

    voting = deepcopy(current)
    for member in voting["members"]:
        wanted = declared.get(member["host"])
        if wanted is not None and wanted.votes != member.get("votes", 1):
            change = f"{member['host']}: votes {member.get('votes', 1)} -> {wanted.votes}"
            member.update(wanted.fields())
            return _step(voting, change)
    for host, wanted in declared.items():
        if host not in present:
            new_id = max((member["_id"] for member in voting["members"]), default=-1) + 1
            voting["members"].append({"_id": new_id} | wanted.fields())
            return _step(voting, f"add member {host}")
    extra = [host for host in present if host not in declared]
    if extra and not spec.allow_removal:
        raise ClusterError(
            f"{spec.name} has members that the topology does not: {', '.join(extra)}; "
            "declare them, or allow the removal (allow_removal: true)"
        )
    if extra:
        voting["members"] = [member for member in voting["members"] if member["host"] != extra[0]]
        return _step(voting, f"remove member {extra[0]}")
    return None


def _step(configuration: Document, change: str) -> Step:
    configuration["version"] += 1
    # The server sets the term itself; sending back an old one is refused after an election in between.
    configuration.pop("term", None)
    return Step(configuration, change)


def converge(
    spec: ReplicaSetSpec, credentials: Credentials, *, wait_seconds: float = 60, check_mode: bool = False
) -> Outcome:
    """Bring the set to what `spec` declares and wait until it is writable and healthy.

    In check mode nothing is changed and nothing awaited; members that do not answer are planned as a new set.
    Raises DeadlineError (what was awaited, who is missing) and ClusterError (a foreign set name, a member that
    would have to be removed).
    """
    deadline = Deadline(wait_seconds)
    outcome = Outcome()
    if check_mode:
        return _summarized(_plan(spec, credentials, outcome))
    _wait_for_members(spec, credentials, deadline)
    holders = _configurations(spec, credentials)
    if holders:
        outcome.before = _newest(holders.values())
        _refuse_foreign(spec, holders)
    else:
        _initiate(spec, credentials, deadline)
        outcome.changes.append(f"initiate {spec.name} with {len(spec.members)} members")
    _reconfigure(spec, credentials, deadline, outcome)
    outcome.facts["primary"] = _wait_until_healthy(spec, credentials, deadline)
    outcome.after = _newest(_configurations(spec, credentials).values())
    return _summarized(outcome)


def summary(configuration: Document) -> Document:
    """The part of a configuration document that is declared: what a diff shows."""
    if not configuration:
        return {}
    keys = ("host", "priority", "votes", "hidden", "tags")
    return {
        "set": configuration["_id"],
        "members": [{key: member.get(key) for key in keys} for member in configuration["members"]],
        "settings": {
            key: configuration.get("settings", {}).get(key)
            for key in ("electionTimeoutMillis", "heartbeatIntervalMillis")
        },
    }


def _summarized(outcome: Outcome) -> Outcome:
    return replace(outcome, before=summary(outcome.before), after=summary(outcome.after))


def _plan(spec: ReplicaSetSpec, credentials: Credentials, outcome: Outcome) -> Outcome:
    try:
        holders = _configurations(spec, credentials, timeout_seconds=1)
    except SecretMissingError:
        holders = {}
    if not holders:
        outcome.changes.append(f"initiate {spec.name} with {len(spec.members)} members")
        outcome.after = spec.first_configuration()
        return outcome
    _refuse_foreign(spec, holders)
    outcome.before = outcome.after = _newest(holders.values())
    while step := next_step(outcome.after, spec):
        outcome.changes.append(step.change)
        outcome.after = step.configuration
    return outcome


def _wait_for_members(spec: ReplicaSetSpec, credentials: Credentials, deadline: Deadline) -> None:
    missing = {member.host: "did not answer" for member in spec.members}
    while missing:
        for host in list(missing):
            try:
                hello(host, credentials.tls, timeout_seconds=min(2, deadline.remaining + 0.1))
                del missing[host]
            except PyMongoError as error:
                missing[host] = describe(error)
        if missing:
            host, reason = next(iter(missing.items()))
            deadline.pause(f"members of {spec.name}: no answer from {', '.join(missing)} (last: {host}: {reason})")


def _configurations(
    spec: ReplicaSetSpec, credentials: Credentials, *, timeout_seconds: float = 5
) -> dict[str, Document]:
    """The configuration each member holds, by host; members without one, or that do not answer, are left out."""
    found = {}
    for member in spec.members:
        with connect(member.host, credentials, timeout_seconds=timeout_seconds) as client:
            try:
                found[member.host] = client.admin.command("replSetGetConfig")["config"]
            except OperationFailure as error:
                if not is_code(error, codes.NOT_YET_INITIALIZED):
                    raise ClusterError(f"{member.host}: {describe(error)}") from None
            except PyMongoError:
                continue
    return found


def _newest(configurations: Iterable[Document]) -> Document:
    return max(configurations, key=lambda c: (c.get("term", -1), c["version"]), default={})


def _refuse_foreign(spec: ReplicaSetSpec, holders: dict[str, Document]) -> None:
    for host, configuration in holders.items():
        if configuration["_id"] != spec.name:
            raise ClusterError(f"{host} belongs to replica set {configuration['_id']}, not to {spec.name}")
    identities = {str(c.get("settings", {}).get("replicaSetId")) for c in holders.values()}
    if len(identities) > 1:
        raise ClusterError(
            f"members of {spec.name} were initiated apart (replicaSetId {', '.join(sorted(identities))}); "
            "empty the data of the wrong ones and run again"
        )


def _initiate(spec: ReplicaSetSpec, credentials: Credentials, deadline: Deadline) -> None:
    with connect(spec.members[0].host, credentials) as client:
        while True:
            try:
                client.admin.command("replSetInitiate", spec.first_configuration())
                break
            except OperationFailure as error:
                if is_code(error, codes.ALREADY_INITIALIZED):
                    break
                # The quorum check could not reach a member that was there a moment ago.
                if not is_code(error, codes.NODE_NOT_FOUND):
                    raise ClusterError(f"{spec.name} cannot be initiated: {describe(error)}") from None
                deadline.pause(f"{spec.name} to be initiated: {describe(error)}")
        _stand_for_election(spec, client, deadline)


def _stand_for_election(spec: ReplicaSetSpec, client: Client, deadline: Deadline) -> None:
    """Have this member elected now: nobody waits for the election timeout (11 s of it measured without)."""
    while not client.admin.command("hello").get("isWritablePrimary"):
        try:
            client.admin.command("replSetStepUp")
        except OperationFailure as error:
            if not is_code(error, *ELECTION_NOT_YET):
                raise ClusterError(f"{spec.name}: {describe(error)}") from None
        if client.admin.command("hello").get("isWritablePrimary"):
            return
        deadline.pause(f"the first primary of {spec.name}")


def primary_of(hosts: Iterable[str], credentials: Credentials, *, timeout_seconds: float = 2) -> str | None:
    """The member that says it is the writable primary, None when nobody does; each is given `timeout_seconds`."""
    for host in hosts:
        try:
            if hello(host, credentials.tls, timeout_seconds=timeout_seconds).get("isWritablePrimary"):
                return host
        except (PyMongoError, SecretMissingError):
            continue
    return None


def _reconfigure(spec: ReplicaSetSpec, credentials: Credentials, deadline: Deadline, outcome: Outcome) -> None:
    hosts = [member.host for member in spec.members]
    while True:
        primary = primary_of(hosts, credentials)
        if primary is None:
            deadline.pause(f"a primary of {spec.name} among {', '.join(hosts)}")
            continue
        with connect(primary, credentials) as client:
            try:
                current = client.admin.command("replSetGetConfig")["config"]
                outcome.before = outcome.before or current
                step = next_step(current, spec)
                if step is None:
                    return
                client.admin.command("replSetReconfig", step.configuration)
                outcome.changes.append(step.change)
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and not is_code(error, *PASSING_ERRORS):
                    raise ClusterError(f"{spec.name} cannot be reconfigured: {describe(error)}") from None
                deadline.pause(f"{spec.name} to be reconfigured: {describe(error)}")


def _wait_until_healthy(spec: ReplicaSetSpec, credentials: Credentials, deadline: Deadline) -> str:
    hosts = [member.host for member in spec.members]
    while True:
        primary = primary_of(hosts, credentials)
        reason = "no primary"
        if primary:
            with connect(primary, credentials) as client:
                try:
                    status = client.admin.command("replSetGetStatus")
                except PyMongoError as error:
                    reason = describe(error)
                else:
                    sick = unhealthy(status, hosts)
                    if not sick:
                        return primary
                    reason = ", ".join(f"{host} is {state}" for host, state in sick.items())
        try:
            deadline.pause(f"{spec.name} to be healthy: {reason}")
        except DeadlineError as error:
            raise DeadlineError(f"{error}; see the log of the member that is not") from None


def unhealthy(status: dict[str, Any], hosts: Iterable[str]) -> dict[str, str]:
    """Of `hosts`, those that a replSetGetStatus does not show as PRIMARY or SECONDARY, with their state."""
    states = {
        member["name"]: member["stateStr"] if member.get("health") else f"unreachable ({member['stateStr']})"
        for member in status["members"]
    }
    return {host: states.get(host, "not a member") for host in hosts if states.get(host) not in HEALTHY_STATES}
