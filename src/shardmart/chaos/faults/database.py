"""Faults that a client of the database makes, with nothing but a way to the servers: connections, step-downs, moving
chunks, and the one that does nothing.  There is nothing to undo in any of them once their process has ended."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
from pymongo.errors import PyMongoError

from shardmart.cluster.description import Role

from ..errors import ChaosError
from .fault import Fault


class Connections(Fault):
    """Open connections and keep them: what a client with a leak does."""

    kind = "connections"
    _open: Sequence[socket.socket] = ()

    def begin(self) -> None:
        """Open as many as asked, or until the server refuses."""
        opened: list[socket.socket] = []
        for server in self.servers:
            for _ in range(int(self.parameters["count"])):
                try:
                    opened.append(socket.create_connection((server.host, server.port), timeout=2))
                except OSError:
                    break
        self._open = opened
        self.parameters["opened"] = len(opened)
        if not opened:
            raise ChaosError(f"no connection to {', '.join(s.name for s in self.servers)} could be opened")

    def count(self) -> int:
        """How many established connections lead to the targets, those not accepted yet included; for pods, how many
        were opened."""
        if any(server.pod for server in self.servers):
            return int(self.parameters.get("opened", 0))
        ports = {(server.port,) for server in self.servers}
        return sum(
            connection.status == psutil.CONN_ESTABLISHED and tuple(connection.laddr)[1:2] in ports
            for connection in psutil.net_connections(kind="tcp")
        )

    def end(self) -> None:
        """Close them; a dead guard's are closed by the kernel."""
        for connection in self._open:
            connection.close()


STEP_DOWN = {"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5}


class StepDowns(Fault):
    """A storm: every `interval_s` the primary of each target's set is told to step down."""

    kind = "stepdowns"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Step down again and again; `done` counts the primaries that obeyed."""
        self.parameters["done"] = 0
        sets = sorted({server.group for server in self.servers if server.role is not Role.ROUTER})
        while not stop.is_set() and time.monotonic() < deadline:
            for name in sets:
                if (primary := self.targets.primary(name)) and self.targets.command(primary, STEP_DOWN, 10):
                    self.parameters["done"] += 1
            stop.wait(max(0.0, min(float(self.parameters["interval_s"]), deadline - time.monotonic())))

    def evidence(self) -> dict[str, Any]:
        """How many step-downs were obeyed."""
        return {"step_downs": self.parameters.get("done", 0)}


class ChunkMoves(Fault):
    """Move chunks of collections between shards, one after the other, through the router as the administrator.

    A range that has left a shard cannot return before its old copy there is deleted (orphanCleanupDelaySecs, 900 s by
    default, 3600 s from 8.2), so every chunk moves once in that time: name enough collections in `namespace` (a comma
    list).
    """

    kind = "chunkmoves"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Move until the end; what a move says when it fails is kept, and the next one is tried."""
        from pymongo import MongoClient

        self.parameters["moved"], self.parameters["refused"] = 0, []
        turn = 0
        with MongoClient[dict[str, Any]](
            self.targets.state.uri("admin"), serverSelectionTimeoutMS=2000, socketTimeoutMS=60_000
        ) as client:
            while not stop.is_set() and time.monotonic() < deadline:
                try:
                    if choices := self._choices(client):
                        namespace, bounds, destination = choices[turn % len(choices)]
                        client.admin.command("moveChunk", namespace, bounds=bounds, to=destination)
                        self.parameters["moved"] += 1
                    else:
                        self._refused("every range awaits the deletion of its old copy")
                except PyMongoError as error:
                    self._refused(str(error)[:200])
                turn += 1
                stop.wait(float(self.parameters["interval_s"]))

    def _refused(self, why: str) -> None:
        self.parameters["refused"] = [*self.parameters["refused"][-4:], why]

    def _choices(self, client: Any) -> list[tuple[str, list[dict[str, Any]], str]]:
        """Namespace, bounds of a chunk, and destination of every move that may succeed now."""
        config = client["config"]
        shards = sorted(shard["_id"] for shard in config["shards"].find())
        awaited = {shard: self._awaited(shard) for shard in shards}
        found = []
        for namespace in map(str.strip, str(self.parameters["namespace"]).split(",")):
            collection = config["collections"].find_one({"_id": namespace})
            if collection is None or collection.get("unsplittable"):  # from 8.0: not sharded, but moved once
                raise ChaosError(f"{namespace} is not sharded: nothing to move")
            for chunk in config["chunks"].find({"uuid": collection["uuid"]}).sort("min", 1):
                destination = shards[(shards.index(chunk["shard"]) + 1) % len(shards)]
                if (namespace, chunk["min"]) not in awaited[destination]:
                    found.append((namespace, [chunk["min"], chunk["max"]], destination))
        return found

    def _awaited(self, shard: str) -> list[tuple[str, dict[str, Any]]]:
        """Namespace and lower bound of the ranges whose deletion a shard has scheduled."""
        primary = self.targets.primary(shard)
        question = {"find": "rangeDeletions", "batchSize": 1000, "$db": "config"}
        answer = self.targets.command(primary, question, 5) if primary else None
        documents = answer["cursor"]["firstBatch"] if answer else []
        return [(document["nss"], document["range"]["min"]) for document in documents]

    def evidence(self) -> dict[str, Any]:
        """How many chunks moved, and the last refusals."""
        return {"moved": self.parameters.get("moved", 0), "refused": self.parameters.get("refused", [])}


class Nothing(Fault):
    """A fault that does nothing: the negative control of the proofs."""

    kind = "nothing"


KINDS: dict[str, type[Fault]] = {fault.kind: fault for fault in (Connections, StepDowns, ChunkMoves, Nothing)}
