"""Nodes given by their connection strings; one of them may be reached through a forwarder that can be cut."""

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
    """See `demonstrations.Losing`.  The servers are not touched: what is lost is the way to one, if one is named."""

    loss = "a cut of the line"

    def __init__(self, settings: Settings, name: str | None) -> None:
        """BadUseError for a connection string that cannot go through a forwarder."""
        self.names = tuple(settings.nodes)
        self._settings, self._name = settings, name
        self._forwarder: Forwarder | None = None
        if name is not None:
            self._forwarder = _forwarder(name, settings)
            self._settings = replace(
                settings, nodes={**settings.nodes, name: _through(self._forwarder, settings.nodes[name])}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._forwarder:
            self._forwarder.close()

    def settings(self, *, timeout_seconds: float) -> Settings:
        """The settings, with the way to the named node through the forwarder."""
        return replace(self._settings, timeout_seconds=timeout_seconds)

    def kill(self, name: str) -> None:
        """Cut the line to the node."""
        self._line(name).cut()

    def start(self, name: str) -> None:
        """Mend it."""
        self._line(name).restore()

    def _line(self, name: str) -> Forwarder:
        if name != self._name or self._forwarder is None:
            raise ValueError(f"the line that can be cut is that of {self._name}, not that of {name}")
        return self._forwarder


def _forwarder(name: str, settings: Settings) -> Forwarder:
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
    return Forwarder(host, port)


def _through(forwarder: Forwarder, uri: str) -> str:
    place = urlsplit(uri)
    login, at, _ = place.netloc.rpartition("@")
    return urlunsplit(place._replace(netloc=f"{login}{at}127.0.0.1:{forwarder.port}"))


def _same_server(one: str, other: str) -> bool:
    return bool(parse_uri(one)["nodelist"] == parse_uri(other)["nodelist"])
