"""The loader's client settings."""

from __future__ import annotations

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI

from shardmart.errors import BadUseError

from .generation.dataset import Document

CONNECT_SECONDS = 10.0


def connect(uri: str) -> MongoClient[Document]:
    """A client for `uri`; it connects when first used.

    Raises BadUseError for a connection string that is none. Its text is not repeated: it may hold a password.
    """
    try:
        return MongoClient(
            uri,
            appname="shardmart-load",
            serverSelectionTimeoutMS=int(CONNECT_SECONDS * 1000),
            connectTimeoutMS=int(CONNECT_SECONDS * 1000),
            # A router that hangs is a failed attempt, not the end of the load; 60 s is longer than a majority write
            # waits (batches.WRITE_CONCERN).
            socketTimeoutMS=60_000,
            # loader.patience tries again, and says so; a driver that did it too would double every wait.
            retryWrites=False,
            retryReads=False,
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise BadUseError(f"not a usable MongoDB connection string: {type(error).__name__}") from None
