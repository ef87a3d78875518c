"""The simulated payment provider's own ledger: what it was asked, what it did, and the mistakes it is told to make.

It is as strict as real ones are: an operation is known by its key for ever, a charge is returned once, and a charge
that was to be returned before it was made is never made.  It shares nothing with the shop.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..domain.errors import InvalidError

Action = Literal[
    "decline", "delay", "fail", "lose-answer", "decline-refund", "repeat-webhook", "webhook-first", "no-webhook"
]

KEY_REUSED = "this key was used for another operation"


@dataclass(frozen=True)
class Rule:
    """Do `action` to a `share` (0 to 1) of orders, chosen by their id, at the first `times` attempts (0: always)."""

    action: Action
    share: float = 1.0
    times: int = 0
    seconds: float = 0.0

    def applies(self, order: str, attempt: int) -> bool:
        """Whether it applies to this attempt (1, 2, …) for the order."""
        if self.times and attempt > self.times:
            return False
        digest = hashlib.sha256(f"{self.action}/{order}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < self.share * 2**32


@dataclass(frozen=True)
class Operation:
    """What the provider did."""

    key: str
    kind: str
    order: str
    amount_cents: int
    answer: str
    reference: str

    def document(self) -> dict[str, Any]:
        """As it is answered."""
        return {
            "answer": self.answer,
            "reference": self.reference,
            "order": self.order,
            "amount_cents": self.amount_cents,
        }


class ProviderLedger:
    """Operations in a SQLite file that survives the process.  Each method is one transaction."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "provider.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(
            """
            CREATE TABLE IF NOT EXISTS operations (
              number INTEGER PRIMARY KEY, key TEXT UNIQUE, kind TEXT, order_id TEXT, amount INTEGER, answer TEXT,
              reference TEXT, at REAL);
            CREATE INDEX IF NOT EXISTS by_order ON operations (order_id);
            CREATE TABLE IF NOT EXISTS attempts (key TEXT PRIMARY KEY, number INTEGER);
            """
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def attempt(self, key: str) -> int:
        """Count an attempt for a key; returns which it is."""
        found = self._database.execute(
            "INSERT INTO attempts VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET number = number + 1 RETURNING number",
            (key,),
        ).fetchone()
        return int(found[0])

    def known(self, key: str) -> Operation | None:
        """The operation under a key."""
        found = self._database.execute(
            "SELECT key, kind, order_id, amount, answer, reference FROM operations WHERE key = ?", (key,)
        ).fetchone()
        return Operation(*found) if found else None

    def charge(self, key: str, order: str, amount_cents: int, *, decline: bool) -> Operation:
        """Charge, or answer what was answered under this key; InvalidError if that was another operation."""
        if known := self._repeated(key, "charge", order):
            if known.answer == "captured" and known.amount_cents != amount_cents:
                raise InvalidError(KEY_REUSED)
            return known
        return self._write(key, "charge", order, amount_cents, "declined" if decline else "captured")

    def refund(self, key: str, order: str, charge_key: str, *, decline: bool) -> Operation:
        """Return the charge under `charge_key`, or see that it is never made.  A declined refund is not remembered.

        InvalidError if one of the keys is that of another operation.
        """
        if key == charge_key:
            raise InvalidError("a refund has a key of its own")
        if known := self._repeated(key, "refund", order):
            return known
        charge = self._repeated(charge_key, "charge", order)
        if charge is None:
            self._write(charge_key, "charge", order, 0, "declined")
            return self._write(key, "refund", order, 0, "voided")
        if charge.answer != "captured":
            return self._write(key, "refund", order, 0, "voided")
        if decline:
            return Operation(key, "refund", order, charge.amount_cents, "refund-declined", "")
        return self._write(key, "refund", order, charge.amount_cents, "refunded")

    def _repeated(self, key: str, kind: str, order: str) -> Operation | None:
        """The operation under a key, which must be of this kind and order."""
        known = self.known(key)
        if known and (known.kind, known.order) != (kind, order):
            raise InvalidError(KEY_REUSED)
        return known

    def entries(self, after: int, limit: int) -> list[dict[str, Any]]:
        """The ledger by number, after `after`."""
        rows = self._database.execute(
            "SELECT number, key, kind, order_id, amount, answer, reference, at FROM operations WHERE number > ?"
            " ORDER BY number LIMIT ?",
            (after, limit),
        )
        names = ("number", "key", "kind", "order", "amount_cents", "answer", "reference", "at")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _write(self, key: str, kind: str, order: str, amount_cents: int, answer: str) -> Operation:
        reference = f"{kind[:2]}_{hashlib.sha256(key.encode()).hexdigest()[:20]}"
        operation = Operation(key, kind, order, amount_cents, answer, reference)
        self._database.execute(
            "INSERT INTO operations (key, kind, order_id, amount, answer, reference, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, kind, order, amount_cents, answer, reference, time.time()),
        )
        return operation
