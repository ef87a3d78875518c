"""SCRAM-SHA-256 towards members, as the internal user `__system` whose password is the keyfile.

Only for the router's own connections; a client's conversation is forwarded, never taken apart.  Source: RFC 5802,
RFC 7677, and MongoDB 6.0 (keyfile without white space, authSource `local`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bson import Binary

from .errors import Code, RouterError

Caller = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def read_keyfile(path: Path) -> str:
    """The key in `path`, without white space; raises OSError, or ValueError when others may read the file."""
    if path.stat().st_mode & 0o077:
        raise ValueError(f"permissions on {path} are too open: run `chmod 600 {path}`")
    key = "".join(path.read_text().split())
    if not 6 <= len(key) <= 1024:
        raise ValueError(f"{path} must hold 6 to 1024 characters, it holds {len(key)}")
    return key


@functools.lru_cache(maxsize=256)
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


async def authenticate(call: Caller, password: str) -> None:
    """Authenticate as `__system` through `call`; raises RouterError 18 when the member's keyfile is another one."""

    async def step(payload: str, **fields: Any) -> dict[str, Any]:
        reply = await call({**fields, "payload": Binary(payload.encode()), "$db": "local"})
        if reply.get("ok") != 1:
            message = f"authentication with the keyfile failed: {reply.get('errmsg')}"
            raise RouterError(Code.AuthenticationFailed, message)
        return reply

    nonce = base64.b64encode(os.urandom(24)).decode()
    first = f"n=__system,r={nonce}"
    reply = await step(f"n,,{first}", saslStart=1, mechanism="SCRAM-SHA-256", options={"skipEmptyExchange": True})
    conversation = {"saslContinue": 1, "conversationId": reply["conversationId"]}
    server_first = bytes(reply["payload"]).decode()
    parts = dict(item.split("=", 1) for item in server_first.split(","))
    if not parts["r"].startswith(nonce):
        raise RouterError(Code.AuthenticationFailed, "the member answered with another nonce")
    salted = _salted(password, base64.b64decode(parts["s"]), int(parts["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c=biws,r={parts['r']}"
    message = f"{first},{server_first},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    reply = await step(f"{without_proof},p={proof}", **conversation)
    expected = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")).decode()
    if f"v={expected}" not in bytes(reply["payload"]).decode().split(","):
        raise RouterError(Code.AuthenticationFailed, "the member could not prove that it knows the keyfile")
    while not reply["done"]:
        reply = await step("", **conversation)
