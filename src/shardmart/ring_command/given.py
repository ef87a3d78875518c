"""Servers of a demonstration that are there already, given by their connection strings.

A demonstration works in a database of its own (`ring_demonstration`), which is dropped before it begins, for one that
was killed may have left it, and at its end.  Nothing else on the servers is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, PyMongoError

from shardmart.errors import BadUseError, UnreachableError
from shardmart.ring import Settings

NAME = "demonstration"
TIMEOUT_SECONDS = 5.0


def strings(uris: list[str] | None, file: Path | None) -> list[str] | None:
    """The connection strings given on the command line, or a line each in a file; None for neither.  BadUseError."""
    if file is None:
        return uris or None
    if uris:
        raise BadUseError("give connection strings by --uri or by --uri-file, not by both")
    return _lines(file, "--uri-file")


def _lines(file: Path, option: str) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise BadUseError(f"{option}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadUseError(f"{option}: {file} is not text (UTF-8)") from None


def one(uri: str | None, file: Path | None) -> str | None:
    """The connection string given on the command line, or in a file of one line; BadUseError."""
    if file is None:
        return uri
    if uri:
        raise BadUseError("give the store's connection string by --store-uri or by --store-uri-file, not by both")
    found = _lines(file, "--store-uri-file")
    if len(found) != 1:
        raise BadUseError(f"--store-uri-file: {file} has {len(found)} connection strings, one is needed")
    return found[0]


def named(uris: list[str], nodes: int, store_uri: str | None) -> Settings:
    """The settings of a ring of these servers; BadUseError when they are not as many as the demonstration needs."""
    if len(uris) != nodes:
        raise BadUseError(f"this demonstration needs {nodes} --uri, {len(uris)} given")
    return Settings(NAME, {f"n{i}": uri for i, uri in enumerate(uris, 1)}, store_uri or uris[0], TIMEOUT_SECONDS)


@contextmanager
def cleared(settings: Settings) -> Iterator[None]:
    """Nothing of a demonstration on these servers, before and after.  UnreachableError, BadUseError name the server."""
    _drop(settings)
    try:
        yield
    finally:
        _drop(settings)


def _drop(settings: Settings) -> None:
    for name, uri in {**settings.nodes, "the store": settings.store}.items():
        try:
            with MongoClient[dict[str, object]](
                uri, directConnection=True, serverSelectionTimeoutMS=int(TIMEOUT_SECONDS * 1000)
            ) as client:
                client.drop_database(settings.database)
        except (ConfigurationError, ValueError) as error:  # its text may hold the password
            raise BadUseError(f"{name}: not a usable connection string: {type(error).__name__}") from None
        except PyMongoError as error:
            reason = str(error).split(" (configured")[0].split(", full error")[0][:200]
            raise UnreachableError(f"{name}: {type(error).__name__}: {reason}") from None
