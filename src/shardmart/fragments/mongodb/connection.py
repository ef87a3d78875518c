"""The database of the shop on MongoDB, with the concerns that a shop needs; errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shardmart.errors import RefusedError, UnreachableError

from ..configuration import MONGODB_DATABASE, Configuration

Document = dict[str, Any]
MAJORITY = WriteConcern("majority", wtimeout=30_000)


def connect(configuration: Configuration) -> MongoClient[Document]:
    """A client of the configured MongoDB; it connects when first used."""
    return MongoClient(
        configuration.mongodb_uri(),
        appname="shardmart-fragments",
        serverSelectionTimeoutMS=10_000,
        socketTimeoutMS=60_000,
    )


def database(client: MongoClient[Document]) -> Database[Document]:
    """The shop's database: majority writes, majority reads, times with their zone."""
    options: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
    return client.get_database(
        MONGODB_DATABASE, codec_options=options, write_concern=MAJORITY, read_concern=ReadConcern("majority")
    )


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what PyMongo raises into our exceptions."""
    try:
        yield
    except (ConnectionFailure, ConfigurationError) as error:
        # PyMongo appends its settings and the whole topology.
        said = re.split(r",? ?\(?configured timeouts|, Timeout: |, Topology Description", str(error))[0]
        raise UnreachableError(
            f"MongoDB does not answer: {' '.join(said.split())[:300]}: is the cluster up? `make status`"
        ) from None
    except OperationFailure as error:
        raise RefusedError(f"MongoDB: {error.details.get('errmsg', error) if error.details else error}") from None
    except PyMongoError as error:
        raise RefusedError(f"MongoDB: {' '.join(str(error).split())[:300]}") from None
