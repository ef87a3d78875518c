"""`shardmart shop`: run one instance of a service, make a token, replay events, send parked ones again."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from shardmart.command import run_app
from shardmart.errors import BadUseError

from . import settings
from .settings import PORTS, SERVICES

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong arguments or file, 3 store unreachable, 130 interrupted."

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="JSON file of mode 0600 (src/shardmart/shop/README.md).")]


@app.command("run", epilog=EPILOG)
def run_instance(
    service: Annotated[str, typer.Argument(help=", ".join(SERVICES), metavar="SERVICE")],
    config: Config,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    instance: Annotated[str, typer.Option(help="Name of this instance, as logs and metrics show it.")] = "",
) -> None:
    """Run one instance in the foreground until SIGTERM, which lets requests in hand end."""
    if service not in SERVICES:
        raise BadUseError(f"no service {service!r}: one of {', '.join(SERVICES)}")
    from . import assembly  # here: the other commands start without it
    from .telemetry import log_to_standard_error
    from .web.serving import serve

    name = instance or f"{service}-{os.getpid()}"
    options = settings.load(config)
    log_to_standard_error(service, name)
    made = assembly.assemble(service, options, name)
    serve(made, host, PORTS[service] if port is None else port, options.drain_seconds)


@app.command(epilog=EPILOG)
def token(
    config: Config,
    operator: Annotated[bool, typer.Option("--operator", help="For an operator.")] = False,
    customer: Annotated[str | None, typer.Option(help="For the customer REGION.USER.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How long it is good for.")] = 24,
) -> None:
    """Print a bearer token."""
    from .web.tokens import OPERATOR, issue

    if operator == (customer is not None):
        raise BadUseError("a token is --operator or --customer REGION.USER")
    keys = settings.load(config).tokens.keys
    print(issue(keys, OPERATOR if operator else f"customer:{customer}", hours * 3600))


@app.command(epilog=EPILOG)
def order(
    config: Config,
    customer: Annotated[str | None, typer.Option(help="Who orders, REGION.USER; anybody otherwise.")] = None,
    wait: Annotated[float, typer.Option(min=1, help="How long it may take, seconds.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Place one order and follow it until it is confirmed and its customer was told."""
    from .demonstration import follow, somebody

    options = settings.load(config)
    say = (lambda line: None) if as_json else (lambda line: print(line, flush=True))
    done = asyncio.run(follow(options, customer or somebody(options), deadline_seconds=wait, say=say))
    if as_json:
        print(json.dumps(done.as_document()))


def main(arguments: list[str]) -> int:
    """Run `shardmart shop` with `arguments`; returns the exit code."""
    return run_app(app, "shop", arguments)
