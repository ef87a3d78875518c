"""Simulate rings of 3 to 1,000 nodes with 1 to 1,000 virtual nodes: spread, what a joining node moves, repair traffic.

No server takes part: it is arithmetic on the points of the ring.  Writes docs/images/ring-*.png and prints the tables
of docs/ring.md.  Usage: .venv/bin/python benchmarks/ring_simulation.py [--pictures docs/images]
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import command_line
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from shardmart.ring.placement.keys import HALF, hash_bytes
from shardmart.ring.placement.ring import Ring
from shardmart.ring.repair.comparison import ARCS_AT_ONCE, FEW

NODES = (3, 10, 30, 100, 300, 1000)
VIRTUAL = (1, 10, 100, 1000)
SAMPLE = 20_000
RECORDS = 100_000


def shares(nodes: int, virtual: int) -> NDArray[np.float64]:
    """Which part of the circle each node owns, as a multiple of the mean."""
    points = np.fromiter(
        (hash_bytes(f"n{node}#{i}".encode()) for node in range(nodes) for i in range(virtual)),
        np.int64,
        nodes * virtual,
    )
    owner = np.repeat(np.arange(nodes), virtual)
    order = np.argsort(points, kind="stable")
    sorted_points = points[order].astype(np.uint64) ^ np.uint64(1 << 63)  # back from int64, in its order
    lengths = np.diff(sorted_points, prepend=sorted_points[-1:])  # around the circle, modulo 2^64
    return np.bincount(owner[order], weights=lengths.astype(np.float64), minlength=nodes) / 2.0**64 * nodes


def expected_deviation(nodes: int, virtual: int) -> float:
    """Standard deviation of a node's share, as a part of the mean.

    The shares of N nodes with V points each are Dirichlet distributed, all parameters V (spacings of uniform points),
    so the variance of one share is (N - 1) / (N^2 (N V + 1)).
    """
    return math.sqrt((nodes - 1) / (nodes * virtual + 1))


def moved_over_minimum(nodes: int, virtual: int, copies: int) -> float:
    """Copies made when a node joins, over the copies it has afterwards; sampled keys."""
    names = {f"n{i}": 1 for i in range(nodes)}
    before, after = Ring(names, copies, virtual), Ring(names | {"new": 1}, copies, virtual)
    made = needed = 0
    for n in range(SAMPLE):
        old, new = before.holders(f"key-{n}"), after.holders(f"key-{n}")
        made += len(set(new) - set(old))
        needed += "new" in new
    return made / needed if needed else 1.0


def shared_arcs(nodes: int, virtual: int) -> dict[int, list[tuple[int, int]]]:
    """The arcs of the first node with two copies, by the other holder: first and last place from 0 to 2^64 - 1."""
    points = np.fromiter(
        (hash_bytes(f"n{node}#{i}".encode()) + HALF for node in range(nodes) for i in range(virtual)),
        np.uint64,
        nodes * virtual,
    )
    order = np.argsort(points, kind="stable")
    places, owner = points[order], np.repeat(np.arange(nodes), virtual)[order]
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for at in range(len(places)):
        backup = next(
            int(owner[(at + step) % len(owner)])
            for step in range(1, len(owner))
            if owner[(at + step) % len(owner)] != owner[at]
        )
        if 0 in (holders := (int(owner[at]), backup)):
            first = int(places[at - 1]) + 1 if at else 0
            found[holders[holders[0] == 0]].append((first, int(places[at])))
    return found


def repair_traffic(nodes: int, virtual: int, differing: int) -> tuple[int, int]:
    """Digests and listed records with which a node that returned is compared with all others, as `compare` does it.

    The node holds RECORDS records, `differing` of them changed while it was away.
    """
    random = np.random.default_rng(1)
    arcs = shared_arcs(nodes, virtual)
    sizes = [last - first + 1 for some in arcs.values() for first, last in some]
    every = [one for some in arcs.values() for one in some]
    counts = random.multinomial(RECORDS, np.array(sizes, dtype=np.float64) / sum(sizes))
    hashes = [
        first + int(part * (last - first))
        for (first, last), n in zip(every, counts, strict=True)
        for part in random.random(n)
    ]
    changed = np.sort(random.choice(np.array(hashes, dtype=np.uint64), differing, replace=False))
    hashes_sorted = np.sort(np.array(hashes, dtype=np.uint64))
    digests = listed = 0

    def within(some: Sequence[tuple[int, int]], among: NDArray[np.uint64]) -> int:
        ends = np.array(some, dtype=np.uint64)
        return int((np.searchsorted(among, ends[:, 1], "right") - np.searchsorted(among, ends[:, 0], "left")).sum())

    def descend(some: list[tuple[int, int]]) -> None:
        nonlocal digests, listed
        digests += 2
        if within(some, changed) == 0:
            return
        records = within(some, hashes_sorted)
        first, last = some[0]
        if records > FEW and (len(some) > 1 or first < last):
            middle = (first + last) // 2
            halves = (
                (some[: len(some) // 2], some[len(some) // 2 :])
                if len(some) > 1
                else ([(first, middle)], [(middle + 1, last)])
            )
            for half in halves:
                descend(half)
            return
        listed += 2 * records

    for some in arcs.values():
        for start in range(0, len(some), ARCS_AT_ONCE):
            descend(some[start : start + ARCS_AT_ONCE])
    return digests, listed


def most_digests(batches: int, differing: int) -> int:
    """How many digests a comparison takes at most: two a batch, and for each record that differs a way down the tree.

    The way is as long as halves lead to FEW records, and all ways together are no more than the whole tree (Merkle,
    "A Digital Signature Based on a Conventional Encryption Function", 1987; DeCandia et al., "Dynamo", 2007, 4.7).
    """
    way = math.ceil(math.log2(RECORDS / FEW))
    return 2 * batches + 2 * min(2 * differing * way, 4 * RECORDS // FEW)


def main() -> None:
    """Print the tables and write the pictures."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().pictures
    print("| nodes | virtual nodes | deviation, simulated | expected | largest share / mean |\n|---|---|---|---|---|")
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for virtual in VIRTUAL:
        measured = []
        for nodes in NODES:
            found = shares(nodes, virtual)
            measured.append(float(found.std()))
            print(
                f"| {nodes:,} | {virtual:,} | {100 * found.std():.1f} % | "
                f"{100 * expected_deviation(nodes, virtual):.1f} % | {found.max():.2f} |"
            )
        (line,) = axes.loglog(NODES, [100 * m for m in measured], "o", label=f"{virtual:,} virtual nodes")
        expected = [100 * expected_deviation(nodes, virtual) for nodes in NODES]
        axes.loglog(NODES, expected, "-", color=line.get_color(), linewidth=1)
    axes.axhline(5, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("nodes")
    axes.set_ylabel("standard deviation of a node's share, % of the mean")
    axes.set_title("Spread: simulated (points) and expected (lines)", loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes.set_ylim(1, 500)
    figure.tight_layout()
    figure.savefig(folder / "ring-spread.png", dpi=110)
    print("\n| nodes | virtual nodes | copies | moved / minimum when a node joins |\n|---|---|---|---|")
    for nodes, virtual in ((3, 1), (3, 1000), (100, 100), (1000, 10)):
        for copies in (1, 2, 3):
            print(f"| {nodes:,} | {virtual:,} | {copies} | {moved_over_minimum(nodes, virtual, copies):.2f} |")
    print(f"\nA node of {RECORDS:,} records returns and is compared with all others:\n")
    print("| nodes | virtual nodes | records that differ | digests | at most | records listed | of both nodes' |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for nodes, virtual in ((3, 1), (3, 1000), (30, 1000), (100, 100), (1000, 10)):
        batches = sum(-(-len(some) // ARCS_AT_ONCE) for some in shared_arcs(nodes, virtual).values())
        for differing in (0, 10, 1000):
            digests, listed = repair_traffic(nodes, virtual, differing)
            told = f"{digests:,} | {most_digests(batches, differing):,} | {listed:,} | {50 * listed / RECORDS:.1f} %"
            print(f"| {nodes:,} | {virtual:,} | {differing:,} | {told} |", flush=True)
    figure, axes = plt.subplots(figsize=(7, 3))
    for row, virtual in enumerate((1, 10, 100, 1000)):
        parts = shares(10, virtual)
        axes.barh([row] * 10, parts, left=np.concatenate([[0], parts.cumsum()[:-1]]), edgecolor="white")
    axes.set_yticks(range(4), [f"{v:,} virtual" for v in (1, 10, 100, 1000)])
    axes.set_xlabel("share of ten nodes, in multiples of the mean")
    axes.set_title("What ten nodes own", loc="left")
    figure.tight_layout()
    figure.savefig(folder / "ring-shares.png", dpi=110)


if __name__ == "__main__":
    main()
