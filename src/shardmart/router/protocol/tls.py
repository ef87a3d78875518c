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


@dataclass
class Tls:
    """What the flags say, and the contexts in use: new connections take what they find, open ones keep theirs.

    Every file is PEM; the certificate is shown to clients and members alike.  Made with files of no use it raises
    OSError (an ssl.SSLError is one).
    """

    certificate: Path
    authority: Path
    clients_need_certificates: bool = True
    check_names: bool = True

    def __post_init__(self) -> None:
        self.listener, self.members, self.end = self._for_clients(), self._for_members(), self._try_out()

    def _for_clients(self) -> ssl.SSLContext:
        """A listener's context."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(self.certificate)
        context.verify_mode = ssl.CERT_REQUIRED if self.clients_need_certificates else ssl.CERT_OPTIONAL
        return context

    def _for_members(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate)
        context.check_hostname = self.check_names
        return context

    def _try_out(self) -> datetime:
        """When the certificate shown to clients ends, UTC, from a handshake in memory; raises OSError when it fails.

        So a certificate that is signed by another authority, or over, is refused.
        """
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = self._for_members()
        ours.check_hostname = False
        client = ours.wrap_bio(to_client, to_server)
        server = self._for_clients().wrap_bio(to_server, to_client, server_side=True)
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

    def rotate(self) -> None:
        """Read the files anew; raises OSError, and then nothing has changed.

        The listener's context cannot be exchanged, only added to: an authority that left its file is trusted for
        clients' certificates until a restart (nobody is authenticated by one).
        """
        members, end = self._for_members(), self._try_out()  # before the context in use is touched
        self.listener.load_verify_locations(cafile=str(self.authority))
        self.listener.load_cert_chain(self.certificate)
        self.members, self.end = members, end
