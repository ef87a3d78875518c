"""What the clients of the regions workload ask of a node, and which of their errors prove that nothing happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from shardmart.ledger.regions.system import RegionSystem
from shardmart.ledger.system import NoEffectError
from shardmart.ledger.workloads.regions import NODES, RegionsClient, RegionsGenerator

NAMES = ["APJ", "EMEA", "LATAM"]
KEY = ("EMEA", "ledger-r1:4")
"""Customer 4 is at home in the second region."""


class MemoryNode:
    """Customer_Region on one node: each write makes the next version, a deletion leaves a tombstone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[tuple[str, str], list[Any]] = {}
        """(region, customer_id) → time, node, deleted, customer_name."""
        self.moment = 100
        self.fails: dict[str, psycopg.Error] = {}
        self.committed = 0

    def execute(self, statement: str, values: tuple[Any, ...]) -> Any:
        verb = statement.split()[0]
        if error := self.fails.get(verb):
            raise error
        key = (values[-2], values[-1])
        if verb == "INSERT":
            self._write(values[:2], values[2], deleted=False)
        living = key in self.rows and not self.rows[key][2]
        if verb == "UPDATE":
            if living:
                self._write(key, values[0], deleted=False)
            return SimpleNamespace(rowcount=int(living))
        if verb == "DELETE" and living:
            self._write(key, self.rows[key][3], deleted=True)
        if "SELECT 1 " in statement:
            return SimpleNamespace(fetchone=lambda: (1,) if living else None)
        return SimpleNamespace(fetchone=lambda: tuple(self.rows[key]) if key in self.rows else None)

    def _write(self, key: tuple[str, str], name: str, *, deleted: bool) -> None:
        self.moment += 1
        self.rows[key] = [self.moment, self.name, deleted, name]

    def commit(self) -> None:
        if error := self.fails.get("COMMIT"):
            raise error
        self.committed += 1


@pytest.fixture
def nodes() -> dict[str, MemoryNode]:
    return {name: MemoryNode(name) for name in NAMES}


@pytest.fixture
def client(nodes: dict[str, MemoryNode]) -> RegionsClient:
    @contextmanager
    def on(name: str) -> Iterator[MemoryNode]:
        yield nodes[name]

    connections = SimpleNamespace(names=NAMES, on=on)
    return RegionsClient(SimpleNamespace(connections=connections, key=RegionSystem.key), "r1")  # type: ignore[arg-type]


def test_an_insertion_names_the_customer_by_its_token_and_learns_its_version(
    client: RegionsClient, nodes: dict[str, MemoryNode]
) -> None:
    assert client.invoke("insert", {"key": 4, "node": 1}, 77) == {"version": (101, "EMEA")}
    assert nodes["EMEA"].rows == {KEY: [101, "EMEA", False, "77"]}
    assert (nodes["APJ"].rows, nodes["LATAM"].rows) == ({}, {})
    assert nodes["EMEA"].committed == 1


def test_a_row_is_changed_and_deleted_on_any_node_by_its_home_region(
    client: RegionsClient, nodes: dict[str, MemoryNode]
) -> None:
    nodes["LATAM"].rows[KEY] = [50, "EMEA", False, "7"]
    assert client.invoke("update", {"key": 4, "node": 2}, 78) == {"version": (101, "LATAM")}
    assert nodes["LATAM"].rows[KEY] == [101, "LATAM", False, "78"]
    assert client.invoke("delete", {"key": 4, "node": 2}, 79) == {"version": (102, "LATAM")}
    assert nodes["LATAM"].rows[KEY] == [102, "LATAM", True, "78"]
    assert nodes["LATAM"].committed == 2


@pytest.mark.parametrize("function", ["update", "delete"])
@pytest.mark.parametrize("there", [None, [50, "EMEA", True, "7"]])
def test_what_is_not_there_or_deleted_is_neither_changed_nor_deleted(
    client: RegionsClient, nodes: dict[str, MemoryNode], function: str, there: list[Any] | None
) -> None:
    nodes["APJ"].rows = {KEY: there} if there else {}
    assert client.invoke(function, {"key": 4, "node": 0}, 78) == 0
    assert nodes["APJ"].rows == ({KEY: [50, "EMEA", True, "7"]} if there else {})


def test_a_read_shows_the_row_as_that_node_has_it(client: RegionsClient, nodes: dict[str, MemoryNode]) -> None:
    assert client.invoke("read", {"key": 4, "node": 0}, 1) == {"version": None}
    nodes["APJ"].rows[KEY] = [50, "EMEA", True, "7"]
    assert client.invoke("read", {"key": 4, "node": 0}, 1) == {"version": (50, "EMEA"), "deleted": True, "name": "7"}
    assert client.invoke("read", {"key": 4, "node": 1}, 1) == {"version": None}
    assert nodes["APJ"].rows[KEY] == [50, "EMEA", True, "7"]


def test_an_error_before_the_commit_is_a_certain_failure_in_one_line(
    client: RegionsClient, nodes: dict[str, MemoryNode]
) -> None:
    nodes["EMEA"].fails["INSERT"] = psycopg.errors.UniqueViolation("duplicate key\nDETAIL: it is there")
    with pytest.raises(NoEffectError, match=r"^before commit: UniqueViolation: duplicate key DETAIL: it is there$"):
        client.invoke("insert", {"key": 4, "node": 1}, 77)


def test_an_error_of_the_commit_itself_proves_nothing(client: RegionsClient, nodes: dict[str, MemoryNode]) -> None:
    nodes["EMEA"].fails["COMMIT"] = psycopg.OperationalError("server closed the connection")
    with pytest.raises(psycopg.OperationalError):
        client.invoke("insert", {"key": 4, "node": 1}, 77)


def test_the_mixture_on_customers_and_their_nodes() -> None:
    generator, dice = RegionsGenerator(), random.Random(1)
    drawn = [generator.next(0, number, dice) for number in range(4000)]
    share = {function: count / len(drawn) for function, count in Counter(function for function, _ in drawn).items()}
    assert share == pytest.approx({"insert": 0.17, "update": 0.49, "delete": 0.15, "read": 0.2}, abs=0.03)
    elsewhere = [value["node"] != value["key"] % NODES for function, value in drawn if function != "insert"]
    assert sum(elsewhere) / len(elsewhere) == pytest.approx(2 / 3, abs=0.05)
