"""Random commands through the router and on one plain server, compared: `make differential`.

    python benchmarks/differential.py [--seconds 120] [--seed N] [--length 25] [--uri URI --member HOST:PORT]

Starts a cluster of its own (one config server, two shards of one member) and ends it afterwards. Prints the first
seed, each difference with the fewest commands that show it, and how many commands were tried. Exit code 1 when
there was a difference.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import tempfile
import time
from pathlib import Path

import command_line
from pymongo import MongoClient

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support import differential
from tests.support.clusters import embedded_cluster


def main() -> int:
    """Search, print; 1 when something differs."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long to search (default 120)")
    parser.add_argument("--seed", type=int, help="first seed (default: a new one)")
    parser.add_argument("--cases", type=int, help="how many seeds (default: as many as the time allows)")
    parser.add_argument("--length", type=int, default=25, help="commands of a case (default 25)")
    options = parser.parse_args()
    first = secrets.randbelow(10**9) if options.seed is None else options.seed
    print(f"first seed {first}", flush=True)
    seeds = itertools.count(first) if options.cases is None else range(first, first + options.cases)
    with tempfile.TemporaryDirectory() as folder, embedded_cluster(Path(folder) / "state") as cluster:
        member = cluster.description.shards[0].members[0].address
        keys = cluster.members_credentials.options()
        with cluster.client() as router, MongoClient(member, directConnection=True, **keys) as direct:
            pair = differential.prepare(router, direct)
            end = time.monotonic() + options.seconds
            found = differential.search(
                pair, seeds, options.length, lambda: time.monotonic() > end, lambda text: print(text, flush=True)
            )
    print(f"{pair.tried} commands tried, {len(found)} differences, refused as they may be: {pair.allowed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
