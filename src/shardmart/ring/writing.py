"""How one key is written: a version above all that its holders have, on enough nodes to be acknowledged.

*Acknowledged* means: journalled on `required_copies` different nodes, at least one of them a node the key belongs to; a
node that is away gets its copy as a hint that another keeps.  A put goes through the first holder that answers, which
says if it has something newer, then to the others.

A *conditional* write needs every holder to answer: two copies have no majority that could decide while one is away.  It
is decided by the first holder, and never takes effect when it raises ConflictError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .errors import ConflictError, NodeAwayError, NotAcknowledgedError, StaleRingError, StoreError, UnavailableError
from .membership import View
from .node.node import Node
from .node.record import CONDITIONAL, Record, Version, clock, new_write
from .placement.keys import Key, hash_of, to_id
from .reading import ATTEMPTS, Reader


@dataclass(frozen=True)
class Acknowledged:
    """A write that is kept: on which nodes, and which nodes keep it as a hint for one that is away."""

    version: Version
    nodes: tuple[str, ...]
    hints: tuple[str, ...] = ()


class Writer:
    """See the module.  Safe to use from many tasks of one event loop; what its holders have, `reader` tells."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.nodes = reader.nodes

    async def write(self, wanted: Record) -> Acknowledged:
        """Write a draft, a value or a tombstone.  NotAcknowledgedError, UnavailableError."""
        floor, reason = 0, "the ring kept changing"
        sent: dict[str, int] = {}
        try:
            for _ in range(ATTEMPTS):
                view = self.nodes.view
                try:
                    record, first, away = await self._begin(view, wanted, floor, sent)
                    done, newer = await self._spread(record, {first}, away)
                except StaleRingError as error:
                    reason = str(error)
                    await self.nodes.refresh()
                    continue
                except UnavailableError as error:
                    reason = str(error)
                    if sent or not await self.nodes.one_is_back():
                        raise
                    continue
                if newer is None or newer <= record.version:
                    return done
                if later := await self._offered_after(first, newer, wanted.key):
                    await self._spread(later, {first}, away)
                    return done
                floor, reason = newer.number, "others wrote the key again and again"
        except (UnavailableError, StoreError) as error:
            if not sent:
                raise
            raise NotAcknowledgedError(f"{wanted.key!r}: sent to {', '.join(sent)}; then {error}") from None
        raise NotAcknowledgedError(f"{wanted.key!r}: {reason}; {ATTEMPTS} attempts")

    async def _begin(
        self, view: View, wanted: Record, floor: int, sent: dict[str, int]
    ) -> tuple[Record, str, set[str]]:
        """Have the first holder that answers take the write, in a version above all that it has.

        The record, who that was, and the holders that were away: what they hold is known from the others and from
        hints, and the version is above that.  `sent` gains every node that the write may have reached, with the number
        it had: what is carried out late must find itself older.
        """
        holders = view.holders(wanted.key)
        away: set[str] = set()
        for name in holders:
            silent = {holder for holder in holders if self.nodes[holder].away is not None}
            if silent - away:
                current = await self.reader.newest(wanted.key)
                floor, away = max(floor, current.version.number if current else 0), away | silent
            if name in away:
                continue
            try:
                record = await self._offer(self.nodes[name], wanted, floor, view.epoch, sent)
            except NodeAwayError:
                continue
            return record, name, away
        raise UnavailableError(
            f"{wanted.key!r}: none of its holders ({', '.join(holders)}) answers; the write was not acknowledged"
        )

    async def _offer(self, node: Node, wanted: Record, floor: int, epoch: int, sent: dict[str, int]) -> Record:
        """Write to one node in a version that is newer than what it has; NodeAwayError.

        The number is this client's clock, which is nearly always enough: the node says if it holds something newer,
        and only then is there another request.
        """
        for _ in range(ATTEMPTS):
            number = max(floor + 1, clock(), *(earlier + 1 for earlier in sent.values()))
            # A name of its own for each attempt: what an earlier one may have left is another, older write.
            record = replace(wanted, version=Version(number, new_write()))
            try:
                newer = await node.apply(record, epoch, offered=True)
            except NodeAwayError as error:
                if error.sent:
                    sent[node.name] = number
                raise
            if newer is None:
                sent[node.name] = number
                return record
            floor = newer.number
        raise StaleRingError(f"{node.name}: {wanted.key!r} was written by others again and again")

    async def _offered_after(self, first: str, newer: Version, key: Key) -> Record | None:
        """The write that was offered to `first` after ours and is not older than `newer`, which another holder has.

        It was under way when ours was there already, so ours may count as the one before it, once all holders have it.
        None: `first` had missed `newer`, which may have been acknowledged before ours began, so ours must be above it.
        """
        try:
            held = await self.nodes[first].read_many([to_id(key)], self.nodes.view.epoch)
        except (NodeAwayError, StaleRingError):
            return None
        return held[0] if held and held[0].offered and held[0].version >= newer else None

    async def _spread(self, record: Record, kept: set[str], away: set[str]) -> tuple[Acknowledged, Version | None]:
        """Bring a record that has its version to all its holders; also the newest version met on the way, if newer.

        `away` are the holders whose versions have been looked for in hints before the record got its own.
        """
        for _ in range(ATTEMPTS):
            view = self.nodes.view
            holders = view.holders(record.key)
            try:
                answers, silent = await self._apply(record, [name for name in holders if name not in kept], view.epoch)
                kept |= answers.keys()
                hints = set((await self.nodes.leave_hints(view, [record], kept, silent)).values())
                newer = max((version for version in answers.values() if version), default=None)
                if silent.keys() - away:  # a version that the silent one has, or had, is known from hints
                    current = await self.reader.newest(record.key)
                    newer = max((v for v in (newer, current and current.version) if v), default=None)
            except StaleRingError:
                await self.nodes.refresh()
                continue
            self._refuse_too_few(view, record, kept, hints, silent)
            return Acknowledged(record.version, tuple(n for n in holders if n in kept), tuple(sorted(hints))), newer
        raise NotAcknowledgedError(f"{record.key!r}: the ring kept changing; {ATTEMPTS} attempts")

    async def _apply(
        self, record: Record, names: list[str], epoch: int
    ) -> tuple[dict[str, Version | None], dict[str, NodeAwayError]]:
        return await self.nodes.ask(names, lambda node: node.apply(record, epoch))

    def _refuse_too_few(
        self, view: View, record: Record, kept: set[str], hints: set[str], silent: Mapping[str, NodeAwayError]
    ) -> None:
        back = view.move is not None and view.move.back
        for ring in (view.ring,) if back else view.rings:  # nodes that will not stay do not count
            own = set(ring.holders_at(hash_of(record.key)))
            places = (kept if ring is view.ring and not back else kept & own) | hints
            if not kept & own or len(places) < self.nodes.required:
                raise NotAcknowledgedError(
                    f"{record.key!r}: written on {', '.join(sorted(places)) or 'no node'}, an acknowledgement needs "
                    f"{self.nodes.required} ({'; '.join(str(one) for one in silent.values())})"
                )

    async def write_if(self, wanted: Record, expect: Version | None) -> Acknowledged:
        """Write a draft over exactly this version (None: where there is no value).  Also ConflictError."""
        for _ in range(ATTEMPTS):
            view = self.nodes.view
            holders = view.holders(wanted.key)
            try:
                current = await self.reader.newest(wanted.key)
                self._refuse_silent(view, wanted.key)
                if (None if current is None or current.deleted else current.version) != expect:
                    there = "no value" if current is None or current.deleted else f"version {current.version}"
                    raise ConflictError(f"{wanted.key!r}: expected {expect or 'no value'}, found {there}")
                number = max(current.version.number + 1 if current else 0, clock())
                record = replace(wanted, version=Version(number, new_write(CONDITIONAL)))
                old = current.version if current else None
                if not await self.nodes[holders[0]].replace(record, old, view.epoch):
                    raise ConflictError(f"{wanted.key!r}: another client wrote it first")
            except StaleRingError:
                await self.nodes.refresh()
                continue
            except NodeAwayError as error:
                kind = NotAcknowledgedError if error.sent else UnavailableError
                raise kind(f"{wanted.key!r}: {error}; a conditional write needs all of {', '.join(holders)}") from None
            return await self._spread_if(view, record, old, holders[0])
        raise UnavailableError(f"{wanted.key!r}: the ring kept changing; nothing was written")

    async def _spread_if(self, view: View, record: Record, old: Version | None, first: str) -> Acknowledged:
        """Bring a conditional write that the first holder took to the others.

        While nodes change there is a second holder that decides for those who already work by the next ring.
        """
        kept = {first}
        second = view.rings[-1].holders_at(hash_of(record.key))[0]
        if second not in kept:
            try:
                agreed = await self.nodes[second].replace(record, old, view.epoch)
            except (NodeAwayError, StaleRingError) as error:
                raise NotAcknowledgedError(f"{record.key!r}: {error}; it may be written or not") from None
            if not agreed:
                raise NotAcknowledgedError(f"{record.key!r}: the ring changed meanwhile; it may be written or not")
            kept.add(second)
        try:
            done, _ = await self._spread(record, kept, set())
        except (UnavailableError, StoreError) as error:
            raise NotAcknowledgedError(f"{record.key!r}: sent to {', '.join(kept)}; then {error}") from None
        return done

    def _refuse_silent(self, view: View, key: Key) -> None:
        for name in view.holders(key):
            if reason := self.nodes[name].away:
                raise UnavailableError(f"{key!r}: {name}: {reason}; a conditional write needs every holder")
