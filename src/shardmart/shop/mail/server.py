"""An SMTP server for a shop on one machine: it takes e-mail from the notification service and keeps it.

It listens on loopback, asks for a login and passes nothing on.  A message is acknowledged when it is on the disk: who
gets no answer sends it again, under the same Message-ID.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from shardmart.errors import BadUseError, ShardmartError

from ..settings import Part, Secret
from .maildir import KeptMail

if TYPE_CHECKING:  # the shop's image has no aiosmtpd, because nothing in it is a mail server
    from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

BODY_BYTES = 1_000_000
IDLE_SECONDS = 60
logger = logging.getLogger(__name__)
# aiosmtpd says at each connection that a login without TLS can be read on the way; here there is none but loopback.
warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS", UserWarning)
logging.getLogger("mail.log").setLevel(logging.ERROR)


class MailServer(Part):
    """The server's file, of mode 0600."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    mailbox: Path
    """The folder for what is taken."""
    kept: Annotated[int, Field(ge=1)] = 1000
    """So many messages at least; older ones go."""
    user: str
    password: Secret


class Handler:
    """What aiosmtpd asks: who may send, and where messages go."""

    def __init__(self, options: MailServer) -> None:
        self._user, self._password = options.user.encode(), options.password.encode()
        self._kept = KeptMail(options.mailbox, options.kept)
        self._one_at_a_time = asyncio.Lock()

    def authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any) -> AuthResult:
        """Compare a login with the one there is."""
        from aiosmtpd.smtp import AuthResult, LoginPassword

        known = isinstance(data, LoginPassword) and all(
            [hmac.compare_digest(data.login, self._user), hmac.compare_digest(data.password, self._password)]
        )
        return AuthResult(success=known, handled=False)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one message; its sender keeps what is not answered by 250."""
        content = envelope.content or b""
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._kept.add, content if isinstance(content, bytes) else content.encode())
        except OSError as error:
            logger.warning("a message was not kept: %s", error.strerror)
            return "451 4.3.0 not kept, try again later"
        return "250 2.0.0 kept"


async def serve(options: MailServer) -> None:
    """Serve until SIGTERM or SIGINT.

    BadUseError without aiosmtpd, ShardmartError when the port is taken or the folder cannot be made.
    """
    try:
        from aiosmtpd.smtp import SMTP
    except ModuleNotFoundError:
        raise BadUseError("the extra `shop-servers` is not installed (aiosmtpd): run `make install`") from None
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, ended.set)
    os.umask(0o077)
    try:
        handler = Handler(options)
        server = await loop.create_server(
            lambda: SMTP(
                handler,
                data_size_limit=BODY_BYTES,
                enable_SMTPUTF8=True,
                hostname="localhost",
                ident="Shardmart",
                timeout=IDLE_SECONDS,
                auth_required=True,
                auth_require_tls=False,  # it listens on loopback
                authenticator=handler.authenticate,
                loop=loop,
            ),
            options.host,
            options.port,
        )
    except OSError as error:
        raise ShardmartError(f"the mail server cannot start: {error}") from None
    await ended.wait()
    server.close()
