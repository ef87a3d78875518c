"""The folder of a mail server: a Maildir, one file for each message, which any mail program opens.

It is bounded: the oldest messages go.  What was added is on the disk.  Nothing here speaks SMTP.
"""

from __future__ import annotations

import email
import email.policy
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from mailbox import Maildir
from pathlib import Path
from typing import Any

TRIM_EVERY = 100
"""The folder is looked through once for so many messages."""


class KeptMail:
    """The folder for writing; of one process."""

    def __init__(self, folder: Path, kept: int) -> None:
        """`kept` messages stay at least, and at most `TRIM_EVERY` more."""
        self._folder, self._kept, self._added = folder, kept, 0
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._maildir = Maildir(folder, create=True)

    def add(self, content: bytes) -> None:
        """Keep a message; OSError when it is not on the disk."""
        self._maildir.add(content)
        self._added += 1
        if self._added % TRIM_EVERY == 0:
            for file in _files(self._folder)[: -self._kept]:
                file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Letter:
    """A message as its reader sees it; `times` is how often it came, under one Message-ID."""

    message_id: str
    to: str
    subject: str
    text: str
    arrived_at: datetime
    times: int = 1

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"arrived_at": self.arrived_at.isoformat()}

    def as_line(self) -> str:
        """When, to whom, what about."""
        again = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.arrived_at:%Y-%m-%d %H:%M:%S}  {self.to}  {self.subject}{again}"

    def as_text(self) -> str:
        """The whole of it."""
        again = f"\nCame: {self.times} times, which is one message" if self.times > 1 else ""
        return f"Message-ID: {self.message_id}\nTo: {self.to}\nSubject: {self.subject}{again}\n\n{self.text}"


def letters(folder: Path) -> list[Letter]:
    """What is in the folder, the latest last; each once, at the time when it first came."""
    found: dict[str, Letter] = {}
    for file in _files(folder):
        try:
            letter = _read(file)
        except FileNotFoundError:
            continue  # too old by now
        first = found.get(letter.message_id)
        found[letter.message_id] = replace(first, times=first.times + 1) if first else letter
    return list(found.values())


def about(folder: Path, key: str) -> list[Letter]:
    """Those about an order or a product, whose id they name."""
    return [letter for letter in letters(folder) if key in letter.text.split()]


def _read(file: Path) -> Letter:
    content, at = file.read_bytes(), file.stat().st_mtime
    message = email.message_from_bytes(content, policy=email.policy.default)
    body = message.get_body(("plain",))
    return Letter(
        # Without one a message is known by its file, and never taken for another.
        message_id=str(message["Message-ID"] or f"<{file.name}>"),
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        text=str(body.get_content()) if body else "",
        arrived_at=datetime.fromtimestamp(at, UTC),
    )


def _files(folder: Path) -> list[Path]:
    """Its messages, the oldest first."""
    timed = []
    for place in ("new", "cur"):
        for file in (folder / place).glob("*"):
            try:
                timed.append((file.stat().st_mtime_ns, file.name, file))
            except FileNotFoundError:
                continue
    return [file for _, _, file in sorted(timed)]
