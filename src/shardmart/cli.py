"""The `shardmart` command: one subcommand per package, imported only when it is called."""

from __future__ import annotations

import sys

from shardmart.command import run

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("shardmart.status", "Show sets, members, lag, chunks and documents."),
    "render": ("shardmart.declare.render", "Print the chart's values that a topology decides, or compare them."),
    "load": ("shardmart.loader.cli", "Seed the database with users, products and orders."),
    "ledger": ("shardmart.ledger.cli", "Run a workload that remembers every acknowledged write, and check it."),
    "ring": ("shardmart.ring_command.cli", "Play and look after a consistent-hash ring of standalone servers."),
    "chaos": ("shardmart.chaos.cli", "Random faults, and reports of experiments."),
    "fragments": ("shardmart.fragments_pods", "The shop in fragments and regions, on PostgreSQL and on MongoDB."),
    "shop": ("shardmart.shop.cli", "Run a service of the shop, place an order, replay events."),
    "router": ("shardmart.router.cli", "Run the development router (for machines without mongos)."),
}


def usage() -> str:
    """The text of `shardmart --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["Usage: shardmart COMMAND [OPTIONS]", "", "Commands:", *lines, "", "`shardmart COMMAND --help` says more."]
    )


def main() -> None:
    """Call `main(arguments)` of the package that serves the first word; exit 2 when no package does."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] not in COMMANDS:
        print(f"shardmart: no command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    run(arguments[0], COMMANDS[arguments[0]][0], arguments[1:])
