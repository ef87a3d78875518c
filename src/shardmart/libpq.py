"""Options of libpq's connections that every client of a PostgreSQL server of ours gives."""

from __future__ import annotations

from typing import Any


def checked_by(authority: Any) -> dict[str, str]:
    """Options so that no server is spoken to but one whose certificate, name included, is of `authority`.

    `authority` is the path of its certificate; without one there are no options, and libpq decides.  No certificate
    of one's own is looked for: where that cannot even be tried (a home of root's), libpq fails.  Source: PostgreSQL
    18 manual, "Database Connection Control Functions".
    """
    return {"sslmode": "verify-full", "sslrootcert": str(authority), "sslcertmode": "disable"} if authority else {}
