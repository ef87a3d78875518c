"""Have running servers serve the certificate that is on their disk, by `rotateCertificates` and without a restart.

What a server serves is seen in a TLS handshake, so a
rotation that was interrupted, or a file that has not reached its server yet, is noticed.  `rotateCertificates` reloads
certificate, key and authority for new connections and leaves the open ones alone (MongoDB 5.0 and newer; manual,
"rotateCertificates"); mongod, mongos and the development router have it.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..description import host_and_port
from ..errors import ClusterError
from ..host.certificates import fingerprint as fingerprint_of_pem
from ..protocol.connection import Credentials, Deadline, Tls, connect
from .outcome import Outcome

HANDSHAKE_SECONDS = 5
POLL_SECONDS = 0.5
"""Between two tries: a file may take a minute to reach a pod, and each try reads files and writes a log line."""
MESSAGE = "shardmart: a new certificate"
SHOWN = 12
"""Characters of a fingerprint that are shown."""


class NotAcceptedError(ClusterError):
    """A server shows a certificate that has ended, has another name, or is of another authority."""


def served(address: str, tls: Tls, before: Callable[[socket.socket], None] | None = None) -> str:
    """SHA-256 (hexadecimal) of the certificate that the server at `address` shows; it is verified.

    `before` says on the open connection what the server's protocol wants before TLS.  Raises ClusterError when there is
    no answer, and of these NotAcceptedError when the certificate is not accepted.
    """
    host, port = host_and_port(address)
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise ClusterError(f"cannot use the authority {tls.ca_file}: {error.strerror or error}") from None
    try:
        with socket.create_connection((host, port), timeout=HANDSHAKE_SECONDS) as plain:
            if before:
                before(plain)
            with context.wrap_socket(plain, server_hostname=host) as connection:
                certificate = connection.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        raise NotAcceptedError(
            f"the certificate of {address} is not accepted: {error.verify_message}; a server that serves an ended one "
            "has to be restarted"
        ) from None
    except OSError as error:
        raise ClusterError(f"no TLS with {address}: {error.strerror or error}") from None
    return hashlib.sha256(certificate or b"").hexdigest()


def fingerprint_of(file: str) -> str:
    """SHA-256 (hexadecimal) of the first certificate in a PEM file, which may hold a key too; raises ClusterError."""
    try:
        return fingerprint_of_pem(Path(file).read_bytes())
    except OSError as error:
        raise ClusterError(f"cannot read the certificate {file}: {error.strerror}") from None
    except ValueError:
        raise ClusterError(f"{file} holds no certificate") from None


def converge(
    addresses: Sequence[str],
    fingerprint: str,
    credentials: Credentials,
    deadline: Deadline,
    *,
    check_mode: bool = False,
) -> Outcome:
    """Rotate, one server after the other, where another certificate than `fingerprint` is served.

    In check mode a server that does not answer is one that is still to be started.

    Raises ClusterError, DeadlineError when a server goes on serving another one, and PyMongoError.
    """
    assert credentials.tls
    outcome = Outcome()
    for address in addresses:
        try:
            before = served(address, credentials.tls)
        except ClusterError:
            if check_mode:  # not started yet, or without a certificate yet: it will start with the new one
                continue
            raise
        if before == fingerprint:
            continue
        outcome.changes.append(f"{address}: serve certificate {fingerprint[:SHOWN]} instead of {before[:SHOWN]}")
        if not check_mode:
            _rotate(address, fingerprint, credentials, deadline)
    return outcome


def _rotate(address: str, fingerprint: str, credentials: Credentials, deadline: Deadline) -> None:
    assert credentials.tls
    with connect(address, credentials) as client:
        while True:
            client.admin.command("rotateCertificates", 1, message=MESSAGE)
            found = served(address, credentials.tls)
            if found == fingerprint:
                return
            deadline.pause(f"{address} to serve certificate {fingerprint[:SHOWN]}; it serves {found[:SHOWN]}")
            time.sleep(min(POLL_SECONDS, deadline.remaining))
