"""The demonstrations as commands: each on servers that it starts and stops, or on servers that are there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shardmart.errors import BadUseError
from shardmart.loader.progress import Reporter, reporter

from . import demonstrations, given
from .cut import Cut
from .outcome import Outcome
from .servers import temporary

Story = Callable[[demonstrations.Losing, int, Reporter], Coroutine[Any, Any, Outcome]]

Documents = Annotated[int, typer.Option(min=1, help="How many documents.")]
Uris = Annotated[
    list[str] | None,
    typer.Option("--uri", help="Connection string of a node to use in place of one that is started; once for each."),
]
UriFile = Annotated[
    Path | None,
    typer.Option("--uri-file", help="The same from a file, a line each: strings with passwords belong in one."),
]
StoreUri = Annotated[
    str | None, typer.Option(help="Connection string of the membership store for --uri.  [default: the first node]")
]
StoreUriFile = Annotated[
    Path | None, typer.Option("--store-uri-file", help="The same from a file: a string with a password belongs in one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(app: typer.Typer) -> None:
    """Give the command the three demonstrations."""
    _add(app, "single", demonstrations.single, 1, None, "Insert documents on one node and find each of them.")
    _add(app, "multi", demonstrations.multi, 3, None, "Spread documents over three nodes, remove one, add it back.")
    summary = (
        "Keep every key on two nodes, kill one, go on, start it again; with --uri its connections are cut instead."
    )
    _add(app, "backup", demonstrations.backup, 3, "n2", summary)


def _add(app: typer.Typer, name: str, story: Story, nodes: int, lost: str | None, summary: str) -> None:
    @app.command(name, help=summary)
    def play(
        documents: Documents = 100_000,
        uri: Uris = None,
        uri_file: UriFile = None,
        store_uri: StoreUri = None,
        store_uri_file: StoreUriFile = None,
        as_json: Json = False,
    ) -> None:
        with progress() as output:
            uris, store = given.strings(uri, uri_file), given.one(store_uri, store_uri_file)
            if uris is not None:
                settings = given.named(uris, nodes, store)
                with Cut(settings, lost) as servers, given.cleared(settings):
                    outcome = asyncio.run(story(servers, documents, output))
            elif store is not None:
                raise BadUseError("the membership store is given and no node: give nodes by --uri or --uri-file")
            else:
                with temporary(given.NAME, nodes) as started:
                    outcome = asyncio.run(story(started, documents, output))
        if as_json:
            print(json.dumps(outcome.as_json(), indent=2))
        else:
            outcome.show(Console())
        if not outcome.holds:
            raise typer.Exit(1)


@contextmanager
def progress() -> Iterator[Reporter]:
    """Progress on standard error, which is left in order whatever happens."""
    output = reporter(Console(stderr=True))
    try:
        yield output
    finally:
        output.end()
