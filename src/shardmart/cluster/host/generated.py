"""Random secrets: what a keyfile and a password of ours look like. Nothing here writes, prints or keeps one."""

from __future__ import annotations

import base64
import secrets
import string

KEYFILE_BYTES = 756
"""In base 64 1,008 characters; MongoDB takes 6 to 1,024 (manual, "Use Keyfile Authentication")."""
PASSWORD_LENGTH = 32
ALPHABET = string.ascii_letters + string.digits


def keyfile() -> str:
    """A keyfile: 1,008 base64 characters."""
    return base64.b64encode(secrets.token_bytes(KEYFILE_BYTES)).decode()


def password() -> str:
    """A password of letters and digits, about 190 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))
