"""`shardmart shop`: run one instance of a service, make a token, replay events, send parked ones again."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from shardmart.command import run_app
from shardmart.errors import BadUseError, ShardmartError, UnreachableError

from . import settings
from .ports import StoreError
from .settings import PORTS, SERVICES

CONSUMERS = ("order", "inventory", "payment", "notification")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="JSON file of mode 0600 (src/shardmart/shop/README.md).")]


@app.command("run")
def run_instance(
    service: Annotated[str, typer.Argument(help=", ".join(SERVICES), metavar="SERVICE")],
    config: Config,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; empty: all there are.")] = "127.0.0.1",
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
    if options.faults and os.environ.get(settings.NEGATIVE_CONTROL) != "yes":
        raise BadUseError(f"{config}: faults lose orders and money; only tests set {settings.NEGATIVE_CONTROL}=yes")
    asyncio.run(assembly.refuse_a_store_that_was_left(service, options))
    log_to_standard_error(service, name)
    made = assembly.assemble(service, options, name)
    serve(made, host, PORTS[service] if port is None else port, options.drain_seconds)


@app.command()
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


@app.command()
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


@app.command()
def mail(
    config: Config,
    about: Annotated[str | None, typer.Argument(help="Show whole those about this order or product.")] = None,
    last: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the e-mails that this machine's mail server took, the latest last.

    One that came again, under the same Message-ID, is shown once and says how often it came.
    """
    from .mail.maildir import about as those_about
    from .mail.maildir import letters

    folder = settings.load(config).mailbox
    if folder is None:
        raise BadUseError(f"{config} has no `mailbox`: no mail server here, or not an order service's settings")
    found = (letters(folder) if about is None else those_about(folder, about))[-last:]
    if as_json:
        typer.echo(json.dumps([letter.as_document() for letter in found]))
        return
    for letter in found:
        typer.echo(letter.as_line() if about is None else letter.as_text())
    if not found:
        typer.echo("no e-mail")


@app.command("mail-server")
def mail_server(config: Config) -> None:
    """Run the mail server of a shop on this machine, which keeps what it takes, until SIGTERM."""
    from .mail.server import MailServer, serve

    asyncio.run(serve(settings.load_part(config, MailServer)))


Service = Annotated[str, typer.Argument(help=", ".join(CONSUMERS), metavar="SERVICE")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def replay(
    service: Service,
    config: Config,
    since: Annotated[str, typer.Option("--from", help="`beginning`, or a time such as 2026-11-28T04:00:00Z.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until every lane has done it.")] = 600,
    as_json: Json = False,
) -> None:
    """Let a service handle events once more while it serves: caches are rebuilt, and nothing happens twice.

    It needs no restart.  The log's beginning is told: older events are gone, and so would be what they had to say.
    """
    from .operator_client import OperatorClient

    operator = OperatorClient(settings.load(config), _consumer(service))
    started = operator.call("POST", "/replay", {"from": since})
    if not as_json:
        typer.echo(f"replaying {service} from {since}; the log begins at {started['beginning'] or 'its first event'}")
    deadline = time.monotonic() + wait
    while (left := operator.call("GET", "/replay")["lanes_left"]) and time.monotonic() < deadline:
        if not as_json:
            typer.echo(f"{left} lanes to go")
        time.sleep(1)  # polling interval
    if as_json:
        typer.echo(
            json.dumps({"service": service, "from": since, "beginning": started["beginning"], "lanes_left": left})
        )
    if left:
        raise ShardmartError(f"{left} lanes of {service} had not done it after {wait:.0f} s: is an instance running?")
    if not as_json:
        typer.echo("done")


@app.command()
def parked(
    service: Service,
    config: Config,
    again: Annotated[bool, typer.Option("--again", help="Handle them once more.")] = False,
    key: Annotated[str | None, typer.Option(help="With --again: only those of this order or product.")] = None,
    as_json: Json = False,
) -> None:
    """Show events that a service could not handle, with the reason, or send them again."""
    from .operator_client import OperatorClient

    operator = OperatorClient(settings.load(config), _consumer(service))
    if again:
        found = operator.call("POST", "/parked/again", {"key": key})
        typer.echo(json.dumps(found) if as_json else f"{found['events']} events are handled once more")
        return
    found = operator.call("GET", "/parked")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for event in found["items"]:
        typer.echo(f"{event['id']}  {event['type']}  {event['reason']}")
    if not found["items"]:
        typer.echo("nothing is parked")


@app.command()
def seed(
    config: Config,
    administrator: Annotated[str, typer.Option(help="Who makes tables and user in PostgreSQL.")] = "postgres",
    postgres_password_file: Annotated[
        Path | None, typer.Option(help="File with that one's password; needed where the catalogue is in PostgreSQL.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give each source of the catalogue what it lacks of the products there are; again writes only what is missing."""
    from .seeding import seed as fill

    options = settings.load(config)
    try:
        password = postgres_password_file.read_text().strip() if postgres_password_file else ""
    except OSError as error:
        raise BadUseError(f"cannot read {postgres_password_file}: {error.strerror}") from None
    try:
        done = asyncio.run(fill(options, administrator, password))
    except StoreError as error:
        raise UnreachableError(f"a source does not answer: {error}; run it again, it goes on where it was") from None
    if as_json:
        typer.echo(json.dumps(done.as_document()))
        return
    also = f", {done.products} rows in PostgreSQL, {done.stock} stocks in Redis" if options.postgres else ""
    typer.echo(f"{done.read} products: {done.metadata} got metadata{also}")


@app.command()
def migrate(
    config: Config,
    secrets: Annotated[Path, typer.Option(help="Folder with shop-postgres.password and the services' passwords.")],
    administrator: Annotated[str, typer.Option(help="Who makes tables and users in PostgreSQL.")] = "postgres",
    as_json: Json = False,
) -> None:
    """Have the tables, users, products and customers of a store on PostgreSQL; again makes only what is missing."""
    from .migrating import migrate as make

    try:
        done = asyncio.run(make(settings.load(config), secrets, administrator))
    except StoreError as error:
        raise UnreachableError(f"the store is not ready: {error}; run it again, it goes on where it was") from None
    if as_json:
        typer.echo(json.dumps(done.as_document()))
        return
    for line in done.changes or ["nothing to do"]:
        typer.echo(line)


@app.command("move-store")
def move_store(
    config: Config,
    shop: Annotated[Path, typer.Option(help="Folder with the settings of the services that run, SERVICE-1.json.")],
    secrets: Annotated[Path, typer.Option(help="Folder with shop-postgres.password and the services' passwords.")],
    administrator: Annotated[str, typer.Option(help="Who makes tables and users in PostgreSQL.")] = "postgres",
    check: Annotated[bool, typer.Option("--check", help="Say what would be moved, and change nothing.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back a move that was begun and not finished.")] = False,
    as_json: Json = False,
) -> None:
    """Move the store of a shop that runs from MongoDB to PostgreSQL; --config names both, as store.json does.

    Nothing new is taken meanwhile (503, Retry-After), reading goes on.  It may be killed and run again.
    """
    from .moving import Move

    if check and undo:
        raise BadUseError("--check and --undo are two things: one of them")
    move = Move(settings.load(config), secrets, administrator, shop)
    try:
        done = asyncio.run(move.check() if check else move.undo() if undo else move.run())
    except StoreError as error:
        raise UnreachableError(f"the store was not moved: {error}") from None
    typer.echo(json.dumps(done.as_document()) if as_json else done.as_text())


@app.command()
def sources(
    config: Config,
    secrets: Annotated[Path | None, typer.Option(help="Folder with the passwords, to name their files.")] = None,
    as_json: Json = False,
) -> None:
    """Look into each source of the catalogue: does it answer, what has it, and the command line to look yourself."""
    from .sources import Looked, look

    looked: list[Looked] = asyncio.run(look(settings.load(config), secrets))
    if as_json:
        typer.echo(json.dumps([one.as_document() for one in looked]))
    else:
        for one in looked:
            typer.echo(one.as_text())
    if away := [one.source for one in looked if one.problem]:
        raise UnreachableError(f"{', '.join(away)} cannot be read")


def _consumer(service: str) -> str:
    if service not in CONSUMERS:
        raise BadUseError(f"no service {service!r} that handles events: one of {', '.join(CONSUMERS)}")
    return service


def main(arguments: list[str]) -> int:
    """Run `shardmart shop` with `arguments`; returns the exit code."""
    return run_app(app, "shop", arguments)
