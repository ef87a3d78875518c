"""A server that does nothing but shake hands by TLS, with the certificate of the day."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardmart.cluster.host import certificates


class TlsListener:
    """It shows `certificate` to whoever connects, and changes it when told."""

    def __init__(self, folder: Path, certificate: certificates.Pair) -> None:
        self._folder = folder
        self.certificate = certificate
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = self._socket.accept()
                file = self._folder / "served.pem"
                file.write_bytes(self.certificate.combined)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(file)
                connection.settimeout(5)
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as spoken:
                    spoken.recv(1)

    def close(self) -> None:
        """Answer nobody any more."""
        with suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextmanager
def listening(folder: Path, certificate: certificates.Pair) -> Iterator[TlsListener]:
    """One for the block."""
    folder.mkdir(exist_ok=True)
    found = TlsListener(folder, certificate)
    try:
        yield found
    finally:
        found.close()
