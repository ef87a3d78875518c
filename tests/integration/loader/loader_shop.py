"""A cluster with the shop's database, and ways to run `shardmart load` against it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from shardmart.declare import data_model
from shardmart.loader.cli import main
from tests.support.clusters import EmbeddedCluster

Document = dict[str, Any]
MODEL = data_model.load()


class Shop:
    """A cluster and its `ecommerce` database."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster = cluster
        self.client: MongoClient[Document] = cluster.client()
        self.database: Database[Document] = self.client[MODEL.database]

    def load(self, *arguments: str, code: int = 0) -> Document:
        """Run `shardmart load --json` in this process as the user `loader`; `code` is how it must end."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            ended = main(["--json", "--state", str(self.cluster.folder), *arguments])
        document: Document = json.loads(output.getvalue()) if output.getvalue() else {}
        assert ended == code, document
        return document

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `shardmart load --json` as a process of its own."""
        command = [sys.executable, "-m", "shardmart.loader", "--json", "--state", str(self.cluster.folder), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def counts(self) -> dict[str, int]:
        """Documents per collection, orphans left out."""
        return {name: self.database[name].count_documents({}) for name in ("users", "products", "orders")}

    def clear(self) -> None:
        """Delete all documents."""
        for name in ("users", "products", "orders"):
            self.database[name].delete_many({})


def written(process: subprocess.Popen[str], *, code: int = 0, timeout: float = 240) -> Document:
    """The result of a started load, which must end with `code`."""
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == code, errors
    document: Document = json.loads(output)
    return document


def wait_for_orders(shop: Shop, wanted: int) -> None:
    """Wait until at least `wanted` orders are there."""
    deadline = time.monotonic() + 120
    while (found := shop.database["orders"].estimated_document_count()) < wanted:
        assert time.monotonic() < deadline, f"{found} of {wanted} orders after 120 s"
        time.sleep(0.02)  # polling interval
