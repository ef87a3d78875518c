"""E-mail: at least once, each time under the same Message-ID."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from email.message import EmailMessage

from ..domain.notification import SUBJECTS, Notification
from ..settings import Smtp


class MailChannel:
    """E-mail through one SMTP server."""

    name = "mail"

    def __init__(self, server: Smtp, seconds: float = 5.0) -> None:
        """`seconds` is how long each answer of the server may take."""
        self._server, self._seconds = server, seconds

    async def send(self, notification: Notification, to: str | None) -> None:
        """See `ports.Channel`; a customer who has no address is not told."""
        if to is not None:
            await asyncio.to_thread(self._send, self.message(notification, to))

    def message(self, notification: Notification, to: str) -> EmailMessage:
        """The mail."""
        message = EmailMessage()
        message["Message-ID"] = notification.message_id
        message["From"], message["To"] = self._server.sender, to
        message["Subject"] = SUBJECTS[notification.type]
        lines = [f"{SUBJECTS[notification.type]}: {notification.key}"]
        if "total_cents" in notification.data:
            lines.append(f"Total: {notification.data['total_cents'] / 100:.2f}")
        if "amount_cents" in notification.data:
            lines.append(f"Amount: {notification.data['amount_cents'] / 100:.2f}")
        if "reason" in notification.data:
            lines.append(f"Reason: {notification.data['reason']}")
        if "available" in notification.data:
            lines.append(f"Pieces left: {notification.data['available']}")
        message.set_content("\n".join(lines) + "\n")
        return message

    def _send(self, message: EmailMessage) -> None:
        to = self._server
        # By its short name: the full one is asked of a name server, which may take longer than the mail.
        with smtplib.SMTP(to.host, to.port, local_hostname=socket.gethostname(), timeout=self._seconds) as server:
            if to.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if to.user and to.password:
                server.login(to.user, to.password)
            server.send_message(message)
