"""The router's TLS: one context for clients, one for members, and a certificate that is changed without a restart.

Made by the command line from mongos's flags, read by the listener and by `router.member`, changed by the command
`rotateCertificates`.  Source: MongoDB 6.0 manual, "Configure mongod and mongos for TLS/SSL" and "rotateCertificates".
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """What the flags say. Every file is PEM; the certificate is shown to clients and members alike."""

    certificate: Path
    authority: Path
    clients_need_certificates: bool = True
    check_names: bool = True

    def for_clients(self) -> ssl.SSLContext:
        """A listener's context; raises OSError (an ssl.SSLError is one) when a file is of no use."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(self.certificate)
        context.verify_mode = ssl.CERT_REQUIRED if self.clients_need_certificates else ssl.CERT_OPTIONAL
        return context

    def for_members(self) -> ssl.SSLContext:
        """The context of connections to members; raises OSError."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate)
        context.check_hostname = self.check_names
        return context

    def end(self) -> datetime:
        """When the certificate shown to clients ends, UTC, from a handshake in memory; raises OSError when it fails.

        The handshake is the trial of the files too: one that is signed by another authority, or over, is refused.
        """
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = self.for_members()
        ours.check_hostname = False
        client = ours.wrap_bio(to_client, to_server)
        server = self.for_clients().wrap_bio(to_server, to_client, server_side=True)
        waiting = [client, server]
        for side in (client, server, client, server):  # hello, certificates, finished, and what the server makes of it
            if side in waiting:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                    waiting.remove(side)
        certificate = client.getpeercert()
        if waiting or not certificate:
            raise ssl.SSLError("the handshake did not come to its end")
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


class Tls:
    """The contexts in use. New connections take what they find here; open ones keep what they began with."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.listener = files.for_clients()
        self.members = files.for_members()
        self.end = files.end()

    def rotate(self) -> None:
        """Read the files anew; raises OSError, and then nothing has changed.

        The listener's context cannot be exchanged, only added to: an authority that left its file is trusted for
        clients' certificates until a restart (nobody is authenticated by one).
        """
        members, end = self._files.for_members(), self._files.end()  # tried out before the context in use is touched
        self.listener.load_verify_locations(cafile=str(self._files.authority))
        self.listener.load_cert_chain(self._files.certificate)
        self.members, self.end = members, end
