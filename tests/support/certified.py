"""A certificate of an authority of its own in a state folder, as the role `certificates` makes it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from shardmart.cluster.host import certificates

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client of PostgreSQL says before TLS (its manual, "SSL Session Encryption")."""


def certify(state: Path, authority: certificates.Pair | None = None) -> certificates.Pair:
    """Have tls/ca.pem and tls/server.pem, renewed where they are there; the authority that signed."""
    signing = authority or certificates.make_authority("test")
    made = certificates.make_server_certificate(signing, ["localhost", "127.0.0.1"], 9)
    (state / "tls").mkdir(exist_ok=True, mode=0o700)
    for name, content in (
        ("ca.pem", signing.certificate),
        ("ca-key.pem", signing.key),
        ("server.pem", made.combined),
    ):
        partial = state / "tls" / f".{name}"  # replaced at once, as the role does: who watches reads no half of it
        partial.write_bytes(content)
        partial.replace(state / "tls" / name)
    return signing


def stranger(state: Path) -> Path:
    """The file of an authority that signed nothing."""
    file = state / "tls" / "stranger.pem"
    file.write_bytes(certificates.make_authority("stranger").certificate)
    return file


def shown(port: int, authority: Path, *, postgres: bool = False) -> bytes:
    """The certificate that a server of this machine shows, which `authority` signed."""
    context = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if postgres:
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as speaking:
            found = speaking.getpeercert(binary_form=True)
    assert found
    return found
