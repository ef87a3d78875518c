"""The ring itself: which nodes hold a key.  Pure: no clock, no network, no state; the same input gives the same places.

Every node has `weight * virtual_nodes` points on the circle of 64-bit hashes: the hash of "NAME#0", "NAME#1", …  A key
belongs to the node of the first point at or after its own hash (its owner), then to the next distinct nodes (its
backups).  Points that collide are taken in the order of the names, so the order in which nodes came does not matter.
The algorithm is version 1 (`PLACEMENT`) and will not change under that number: data lies by it.

Source: Karger et al., "Consistent Hashing and Random Trees", STOC 1997; DeCandia et al., "Dynamo", SOSP 2007, 4.2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeVar

from ..errors import SettingsError
from .keys import HALF, Key, hash_bytes, hash_of

PLACEMENT = 1
DEFAULT_VIRTUAL_NODES = 1024
"""The share of a node deviates by about 1/sqrt(virtual nodes) of the mean: 3 % here; docs/ring.md has the table."""
DEFAULT_COPIES = 2
LOWEST, HIGHEST = -HALF, HALF - 1
Label = TypeVar("Label")


@dataclass(frozen=True, order=True)
class Arc:
    """Hashes from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many hashes it has."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Ring:
    """Nodes with weights, and how many points and copies."""

    weights: Mapping[str, int]
    copies: int = DEFAULT_COPIES
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES

    def __post_init__(self) -> None:
        if not self.weights:
            raise SettingsError("a ring needs at least one node")
        if wrong := [name for name, weight in self.weights.items() if weight < 1]:
            raise SettingsError(f"the weight of {wrong[0]} is {self.weights[wrong[0]]}, it must be 1 or more")
        if not 1 <= self.copies <= len(self.weights):
            raise SettingsError(
                f"{self.copies} copies on {len(self.weights)} nodes: at least 1, and at most one for each node"
            )
        if self.virtual_nodes < 1:
            raise SettingsError(f"{self.virtual_nodes} virtual nodes: a node needs at least 1")

    @cached_property
    def _points(self) -> tuple[list[int], list[str]]:
        found = sorted(
            (hash_bytes(f"{name}#{i}".encode()), name)
            for name, weight in self.weights.items()
            for i in range(weight * self.virtual_nodes)
        )
        return [point for point, _ in found], [name for _, name in found]

    @cached_property
    def _known(self) -> dict[int, tuple[str, ...]]:
        return {}

    def holders(self, key: Key) -> tuple[str, ...]:
        """The owner of a key and its backups, in order."""
        return self.holders_at(hash_of(key))

    def holders_at(self, place: int) -> tuple[str, ...]:
        """The same for a hash."""
        position = bisect_left(self._points[0], place) % len(self._points[0])
        found = self._known.get(position)
        if found is None:
            found = self._known[position] = self.order(position, self.copies)
        return found

    def all_from(self, place: int) -> tuple[str, ...]:
        """Every node in the order in which it would come to hold a hash."""
        return self.order(bisect_left(self._points[0], place) % len(self._points[0]), len(self.weights))

    def order(self, position: int, count: int) -> tuple[str, ...]:
        """The first `count` distinct nodes from the point at `position` on."""
        names = self._points[1]
        if count == 1:
            return (names[position],)
        if count == 2:  # the default, and asked for once a point
            first = names[position]
            for at in chain(range(position + 1, len(names)), range(position)):
                if names[at] != first:
                    return (first, names[at])
            return (first,)
        found: dict[str, None] = {}
        for step in range(len(names)):
            found[names[(position + step) % len(names)]] = None
            if len(found) == count:
                break
        return tuple(found)

    def arcs(self) -> Iterator[tuple[Arc, tuple[str, ...]]]:
        """The whole circle from the lowest hash to the highest, cut where the holders change, with the holders."""
        yield from _merged((arc, self.holders_at(arc.first)) for arc in cut([self]))

    def shares(self) -> dict[str, float]:
        """Which part of the circle each node owns; the parts add up to 1."""
        owned = dict.fromkeys(self.weights, 0)
        for arc, holders in self.arcs():
            owned[holders[0]] += arc.size
        return {name: size / (1 << 64) for name, size in owned.items()}


def cut(rings: Iterable[Ring]) -> Iterator[Arc]:
    """The circle cut at every point of every ring: within an arc no ring changes its mind."""
    points = sorted({point for ring in rings for point in ring._points[0]})
    first = LOWEST
    for point in points:
        yield Arc(first, point)
        first = point + 1
    if first <= HIGHEST:
        yield Arc(first, HIGHEST)  # belongs to the first point, around the circle


def changes(before: Ring, after: Ring) -> Iterator[tuple[Arc, tuple[str, ...], tuple[str, ...]]]:
    """Every arc whose holders (their order apart) differ, with the holders before and after."""
    found = ((arc, (before.holders_at(arc.first), after.holders_at(arc.first))) for arc in cut([before, after]))
    for arc, (old, new) in _merged(found):
        if set(old) != set(new):
            yield arc, old, new


def shared(ring: Ring, one: str, other: str) -> list[Arc]:
    """The arcs that two nodes both hold."""
    return joined(arc for arc, holders in ring.arcs() if one in holders and other in holders)


def joined(arcs: Iterable[Arc]) -> list[Arc]:
    """Arcs in order, neighbours made one."""
    found: list[Arc] = []
    for arc in sorted(arcs):
        if found and found[-1].last + 1 == arc.first:
            found[-1] = Arc(found[-1].first, arc.last)
        else:
            found.append(arc)
    return found


def _merged(found: Iterable[tuple[Arc, Label]]) -> Iterator[tuple[Arc, Label]]:
    held: tuple[Arc, Label] | None = None
    for arc, label in found:
        if held and held[1] == label:
            held = (Arc(held[0].first, arc.last), label)
            continue
        if held:
            yield held
        held = (arc, label)
    if held:
        yield held
