"""Nodes given by their connection strings, one of which is reached through a forwarder that can be cut."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pymongo.uri_parser import parse_uri

from shardmart.errors import BadUseError
from shardmart.ring import Settings

from .forwarder import Forwarder


class Cut:
    """See `demonstrations.Losing`.  The servers are not touched: what is lost is the way to one of them."""

    loss = "a cut of the line"

    def __init__(self, settings: Settings, name: str) -> None:
        """BadUseError for a connection string that cannot go through a forwarder."""
        uri = settings.nodes[name]
        try:
            parsed = parse_uri(uri)
            ((host, port),) = parsed["nodelist"]
        except ValueError:
            raise BadUseError(f"{name}: the connection string must name one host") from None
        if parsed["options"].get("tls"):
            raise BadUseError(f"{name}: with TLS the line cannot be cut here: the name of the server would be another")
        if _same_server(uri, settings.store):
            raise BadUseError(
                f"{name}: it is the membership store too, which must stay: give --store-uri, or another order"
            )
        self._name, self._forwarder = name, Forwarder(host, port)
        place = urlsplit(uri)
        login, at, _ = place.netloc.rpartition("@")
        through = urlunsplit(place._replace(netloc=f"{login}{at}127.0.0.1:{self._forwarder.port}"))
        self._settings = replace(settings, nodes={**settings.nodes, name: through})
        self.names = tuple(settings.nodes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forwarder.close()

    def settings(self, *, timeout_seconds: float) -> Settings:
        """The settings, with the way to one node through the forwarder."""
        return replace(self._settings, timeout_seconds=timeout_seconds)

    def kill(self, name: str) -> None:
        """Cut the line to the node."""
        self._must_be(name)
        self._forwarder.cut()

    def start(self, name: str) -> None:
        """Mend it."""
        self._must_be(name)
        self._forwarder.restore()

    def _must_be(self, name: str) -> None:
        if name != self._name:
            raise ValueError(f"the line of {self._name} can be cut, not that of {name}")


def _same_server(one: str, other: str) -> bool:
    return bool(parse_uri(one)["nodelist"] == parse_uri(other)["nodelist"])
