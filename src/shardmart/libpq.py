"""What every client of a PostgreSQL server of ours says when it connects: libpq's options, and the request for TLS."""

from __future__ import annotations

import struct
from typing import Any

SSL_REQUEST = struct.pack(">II", 8, 80877103)
"""What a client may ask first; a server answers with one letter, without a log-in (PostgreSQL 18 manual, 54.7)."""


def checked_by(authority: Any) -> dict[str, str]:
    """Options so that no server is spoken to but one whose certificate, name included, is of `authority`.

    `authority` is the path of its certificate; without one there are no options, and libpq decides.  No certificate
    of one's own is looked for: where that cannot even be tried (a home of root's), libpq fails.  Source: PostgreSQL
    18 manual, "Database Connection Control Functions".
    """
    return {"sslmode": "verify-full", "sslrootcert": str(authority), "sslcertmode": "disable"} if authority else {}
