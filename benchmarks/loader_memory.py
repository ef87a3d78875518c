"""Memory of `shardmart load --dry-run` for growing numbers of orders: it must stay flat.

    python benchmarks/loader_memory.py [ORDERS ...]      default: 100,000 1,000,000 10,000,000

A dry run does everything but talk to a server: it cuts batches, hands them to workers, makes and encodes the documents
and adds up their checksums.  Peaks are sampled ten times a second: of one process, and of all processes together
(proportional set size, as workers share what they import).  Prints Markdown.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import command_line
import psutil

ORDERS_PER_USER = 10
WORKERS = 2


def run(orders: int) -> tuple[float, float, float]:
    """(seconds, peak MB of the largest process, peak MB of all processes)."""
    sizes = ["--users", str(orders // ORDERS_PER_USER), "--orders-per-user", str(ORDERS_PER_USER)]
    command = [
        sys.executable,
        "-m",
        "shardmart.loader",
        "--dry-run",
        "--json",
        "--products",
        "1000",
        "--workers",
        str(WORKERS),
    ]
    started = time.monotonic()
    largest = together = 0
    with subprocess.Popen([*command, *sizes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            sizes_now, shares_now = [], []
            with suppress(psutil.NoSuchProcess):
                for each in (parent, *parent.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                        memory = each.memory_full_info()
                        sizes_now.append(memory.rss)
                        shares_now.append(memory.pss)
            largest = max(largest, *sizes_now, 0)
            together = max(together, sum(shares_now))
            time.sleep(0.1)  # sampling interval
    if process.returncode:
        raise SystemExit(f"the load ended with {process.returncode}")
    return time.monotonic() - started, largest / 1e6, together / 1e6


def main() -> None:
    """Measure and print."""
    parser = command_line.parser(__doc__)
    sizes = [100_000, 1_000_000, 10_000_000]
    parser.add_argument("orders", type=lambda text: int(text.replace(",", "")), nargs="*", default=sizes)
    given = parser.parse_args().orders
    print("| orders | seconds | largest process, MB (RSS) | all processes, MB (PSS) |")
    print("|---:|---:|---:|---:|")
    for orders in given:
        seconds, largest, together = run(orders)
        print(f"| {orders:,} | {seconds:.0f} | {largest:.0f} | {together:.0f} |", flush=True)


if __name__ == "__main__":
    main()
