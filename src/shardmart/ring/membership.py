"""The membership of a ring, kept in MongoDB, so that all clients agree: a `View` is what one reading of it says.

One document a ring, changed only by compare-and-set on its epoch (or on the part that changes), with write concern
majority.  While nodes change, a view has two rings: `ring`, by which data lies now, and `after`, by which it will.
Leases tell which one process moves data or tends the ring; they end by the store's clock, not by their holder's, and
nothing but wasted work depends on them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ..tasks import no_lost_cancellation
from .errors import ChangeRefusedError, SettingsError, StoreError
from .placement.keys import hash_of
from .placement.ring import DEFAULT_COPIES, DEFAULT_VIRTUAL_NODES, PLACEMENT, Ring

Document = dict[str, Any]
COPY, CLEAN = "copy", "clean"
STORE_SECONDS = 5.0
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Member:
    """A node as the membership knows it: whose data it is, and the process that has been compared and may serve."""

    name: str
    identity: str
    process: str | None


@dataclass(frozen=True)
class Move:
    """A change of nodes under way, from the nodes `before` it to those `after` it.

    `epoch` is the last in which data lay by `before`; `dead` cannot be asked any more; `back`: it is taken back.
    """

    phase: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    epoch: int
    dead: str | None = None
    back: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Move:
        """The move that the store's document is; what an earlier version noted beside it is left aside."""
        kept = {name: document[name] for name in ("phase", "before", "after", "epoch", "dead")}
        return cls(**kept, back=bool(document.get("back")))


@dataclass(frozen=True)
class View:
    """What the ring is at one epoch."""

    epoch: int
    ring: Ring
    after: Ring | None
    members: Mapping[str, Member]
    move: Move | None
    reaps: int = 0
    """The number of the last end of tombstones: a node that was not told of it has an old folder (`upkeep`)."""

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The ring, and while data moves the one after."""
        return (self.ring,) if self.after is None else (self.ring, self.after)

    @property
    def target(self) -> Ring:
        """The ring that will be when no nodes are changing any more."""
        return self.ring if self.after is None or (self.move and self.move.back) else self.after

    @property
    def dead(self) -> str | None:
        """The node that cannot be asked any more while nodes change."""
        return self.move.dead if self.move else None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that may hold data of the ring."""
        return tuple(dict.fromkeys(name for ring in self.rings for name in ring.weights))

    def holders(self, key: Any) -> tuple[str, ...]:
        """Every node that has to hold a key, the owner first, those of the ring after at the end."""
        return self.holders_at(hash_of(key))

    def holders_at(self, place: int) -> tuple[str, ...]:
        """The same for a hash."""
        if self.after is None:
            return self.ring.holders_at(place)
        return tuple(dict.fromkeys(name for ring in self.rings for name in ring.holders_at(place)))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> View:
        """The view that the store's document is."""
        if document.get("placement") != PLACEMENT:
            raise StoreError(
                f"the data lies by placement {document.get('placement')}, this version knows {PLACEMENT}: use the "
                "version that wrote it"
            )
        shape = {"copies": document["copies"], "virtual_nodes": document["virtual_nodes"]}
        found = document.get("move")
        move = Move.of(found) if found else None
        return cls(
            epoch=document["epoch"],
            ring=Ring(document["weights"], **shape),
            after=Ring(move.after, **shape) if move and move.phase == COPY else None,
            members={name: Member(name, m["identity"], m["process"]) for name, m in document["members"].items()},
            move=move,
            reaps=document.get("reaps", 0),
        )


class Membership:
    """The store.  Methods raise StoreError when it does not answer within STORE_SECONDS."""

    def __init__(self, uri: str, ring: str, database: str) -> None:
        self.ring = ring
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(
                uri,
                appname="shardmart-ring",
                timeoutMS=int(STORE_SECONDS * 1000),
                serverSelectionTimeoutMS=int(STORE_SECONDS * 1000),
            )
        except (PyMongoError, ValueError) as error:  # its text may hold the password
            raise SettingsError(f"store: not a usable connection string: {type(error).__name__}") from None
        options: Any = {"write_concern": WriteConcern("majority", j=True), "read_concern": ReadConcern("majority")}
        self._rings = self._client[database].get_collection("membership", **options)
        self._leases = self._client[database].get_collection("leases", **options)

    async def close(self) -> None:
        """Give back the connections."""
        await self._client.close()

    async def view(self) -> View:
        """The ring as it is now; StoreError when there is none of that name."""
        document = await self._answer(self._rings.find_one({"_id": self.ring}))
        if document is None:
            raise StoreError(f"no ring {self.ring!r} in the membership store: create it (`shardmart ring create`)")
        return View.of(document)

    async def exists(self) -> bool:
        """Whether there is a ring of this name."""
        return await self._answer(self._rings.find_one({"_id": self.ring}, {"_id": 1})) is not None

    async def create(
        self,
        weights: Mapping[str, int],
        identities: Mapping[str, str],
        processes: Mapping[str, str],
        *,
        copies: int = DEFAULT_COPIES,
        virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
    ) -> None:
        """Write a new ring; ChangeRefusedError when it exists."""
        Ring(weights, copies, virtual_nodes)  # refuses what cannot be
        document = {
            "_id": self.ring,
            "placement": PLACEMENT,
            "epoch": 1,
            "copies": copies,
            "virtual_nodes": virtual_nodes,
            "weights": dict(weights),
            "members": {n: {"identity": identities[n], "process": processes[n]} for n in weights},
            "move": None,
            "reaps": 0,
        }
        try:
            await self._answer(self._rings.insert_one(document))
        except DuplicateKeyError:
            raise ChangeRefusedError(f"ring {self.ring} exists") from None

    async def change(self, view: View, fields: Document, *, unset: Document | None = None) -> View:
        """Set fields and raise the epoch, if it is still that of `view`, and no tombstones have ended since.

        ChangeRefusedError when somebody was first.
        """
        update: Document = {"$set": fields, "$inc": {"epoch": 1}} | ({"$unset": unset} if unset else {})
        where = {"_id": self.ring, "epoch": view.epoch, "reaps": _reaps(view)}
        return await self._update(where, update, f"epoch {view.epoch} has ended, or tombstones have")

    async def finish(self, view: View, gone: list[str]) -> View:
        """The move is over; nodes that are `gone` are members no more."""
        update: Document = {"$set": {"move": None}}
        if gone:
            update["$unset"] = {f"members.{name}": "" for name in gone}
        where = {"_id": self.ring, "epoch": view.epoch, "move.phase": CLEAN}
        return await self._update(where, update, "another mover has finished it")

    async def withdraw(self, member: Member, token: str) -> bool:
        """Say that a node waits to be compared by the holder of `token`; False when it is not as `member` any more.

        Whoever compared it until now can neither empty it nor let it serve from here on.
        """
        name = f"members.{member.name}"
        where = {"_id": self.ring, f"{name}.identity": member.identity, f"{name}.process": member.process}
        waits = {f"{name}.process": None, f"{name}.token": token}
        return await self._done(where, {"$set": waits})

    async def serve(self, name: str, token: str, process: str) -> bool:
        """Say that a node's new process has been compared and may serve; False when another has withdrawn it since."""
        where = {"_id": self.ring, f"members.{name}.token": token}
        update = {"$set": {f"members.{name}.process": process}, "$unset": {f"members.{name}.token": ""}}
        return await self._done(where, update)

    async def empties(self, view: View, name: str, token: str) -> View:
        """Begin the epoch in which a withdrawn node is emptied; ChangeRefusedError when another has withdrawn it since.

        What the node gets from then on is of this epoch, so that nothing of it is taken by a removal that comes late.
        """
        update: Document = {"$inc": {"epoch": 1}}
        if view.move and view.move.phase == COPY:  # data lies by `before` in the new epoch, too
            update["$set"] = {"move.epoch": view.epoch + 1}
        where = {"_id": self.ring, "epoch": view.epoch, f"members.{name}.token": token}
        return await self._update(where, update, f"epoch {view.epoch} has ended, or another compares {name}")

    async def reap(self, view: View, count: int) -> bool:
        """Count that tombstones end; False unless nodes, their processes and the count are those of `view`."""
        processes = {f"members.{name}.process": member.process for name, member in view.members.items()}
        where = {"_id": self.ring, "epoch": view.epoch, "reaps": _reaps(view), **processes}
        return await self._done(where, {"$set": {"reaps": count}})

    async def lease(self, work: str, holder: str, seconds: float) -> bool:
        """Take or renew the lease on some work; False while another holds it."""
        name = f"{self.ring}:{work}"
        free = {"$or": [{"holder": holder}, {"$expr": {"$lt": ["$until", "$$NOW"]}}]}
        taken = [{"$set": {"holder": holder, "until": {"$add": ["$$NOW", int(seconds * 1000)]}}}]
        for _ in range(2):
            done = await self._answer(self._leases.update_one({"_id": name, **free}, taken))
            if done.matched_count:
                return True
            # An upsert takes no $expr (MongoDB manual, "$expr"): the first lease ever begins as one that has ended.
            try:
                ended = datetime(1970, 1, 1, tzinfo=UTC)
                await self._answer(self._leases.insert_one({"_id": name, "holder": "", "until": ended}))
            except DuplicateKeyError:
                return False
        return False

    async def release(self, work: str, holder: str) -> None:
        """Give a lease back."""
        await self._answer(self._leases.delete_one({"_id": f"{self.ring}:{work}", "holder": holder}))

    async def _done(self, where: Document, update: Document) -> bool:
        """Update the ring; False when it is not as `where` says."""
        return bool((await self._answer(self._rings.update_one(where, update))).matched_count)

    async def _update(self, where: Document, update: Document, refusal: str) -> View:
        document = await self._answer(
            self._rings.find_one_and_update(where, update, return_document=ReturnDocument.AFTER)
        )
        if document is None:
            raise ChangeRefusedError(f"ring {self.ring}: {refusal}; read it anew")
        return View.of(document)

    async def _answer(self, operation: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            async with no_lost_cancellation():
                return await operation
        except DuplicateKeyError:
            raise
        except OperationFailure as error:
            if not error.timeout:
                told = (error.details or {}).get("errmsg", type(error).__name__)
                raise StoreError(f"the membership store refuses: {str(told)[:200]} (code {error.code})") from None
            raise StoreError(f"the membership store was too slow ({error.code})") from None
        except PyMongoError as error:
            raise StoreError(
                f"the membership store does not answer ({type(error).__name__}): clients that run go on with reads and "
                "writes; clients that start, changes of nodes and nodes that return wait for it"
            ) from None
        finally:
            operation.close()  # one that was not begun would be complained of


def _reaps(view: View) -> Any:
    """The filter "the count is that of the view"; a ring that an earlier version made has none."""
    return view.reaps or {"$in": [None, 0]}
