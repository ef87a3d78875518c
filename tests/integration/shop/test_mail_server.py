"""The mail server of `make shop`, as a process: it keeps what who may log in sends, and shows a repetition once."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from shardmart.errors import BadUseError
from shardmart.shop.mail import maildir
from shardmart.shop.mail.maildir import KeptMail, letters
from shardmart.shop.mail.server import MailServer
from shardmart.shop.settings import load_part
from tests.support.clusters import free_ports
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
PASSWORD = "a-password-of-this-test"


class Running:
    """The server, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.mailbox, self.port = folder / "data" / "mail-1", free_ports(1)[0]
        self.config = folder / "mail-1.json"
        self.config.touch(mode=0o600)
        self.config.write_text(
            json.dumps({"port": self.port, "mailbox": str(self.mailbox), "user": "shop", "password": PASSWORD})
        )
        self.log = folder / "log"
        command = [sys.executable, "-m", "shardmart.shop", "mail-server", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_until(self._answers, "the mail server to listen")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname="test", timeout=30):
                return True
        except OSError:
            return False

    def send(self, message: EmailMessage, password: str | None = PASSWORD) -> None:
        """Send it, logged in unless `password` is None."""
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="test", timeout=30) as client:
            if password:
                client.login("shop", password)
            client.send_message(message)


def message(subject: str, message_id: str = "<1@shop.example>") -> EmailMessage:
    made = EmailMessage()
    made["Message-ID"], made["From"], made["To"] = message_id, "shop@shop.example", "zoë@kunde.example"
    made["Subject"] = subject
    made.set_content("Your order is confirmed: EMEA.1.2\nTotal: 3.00 €\n")
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.process.terminate()
    assert made.process.wait(60) == 0


def test_what_it_takes_is_kept_for_its_owner_and_a_repetition_is_one_message(server: Running) -> None:
    server.send(message("Bestätigt"))
    server.send(message("Bestätigt"))
    server.send(message("Another", "<2@shop.example>"))
    first, second = letters(server.mailbox)
    assert (first.to, first.subject, first.times) == ("zoë@kunde.example", "Bestätigt", 2)
    assert first.text.splitlines() == ["Your order is confirmed: EMEA.1.2", "Total: 3.00 €"]
    assert (second.message_id, second.times) == ("<2@shop.example>", 1)
    assert "Came: 2 times" in first.as_text()
    assert server.mailbox.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o077 for file in server.mailbox.rglob("*")} == {0}
    assert server.log.read_text() == ""


def test_who_cannot_log_in_is_refused_and_nothing_is_kept(server: Running) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError):
        server.send(message("Forged"), "another-password")
    with pytest.raises(smtplib.SMTPResponseException, match="530"):
        server.send(message("Forged"), None)
    assert letters(server.mailbox) == []


def test_a_message_that_cannot_be_kept_is_refused_for_now(server: Running) -> None:
    server.mailbox.joinpath("tmp").rename(server.mailbox / "away")
    server.mailbox.joinpath("tmp").touch()
    with pytest.raises(smtplib.SMTPDataError, match="451"):
        server.send(message("Later"))
    server.mailbox.joinpath("tmp").unlink()
    server.mailbox.joinpath("away").rename(server.mailbox / "tmp")
    server.send(message("Later"))
    assert [letter.subject for letter in letters(server.mailbox)] == ["Later"]
    assert "a message was not kept: Not a directory" in server.log.read_text()


def test_the_folder_is_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir, "TRIM_EVERY", 5)
    kept = KeptMail(tmp_path / "mail", 3)
    for number in range(10):
        kept.add(bytes(message(str(number), f"<{number}@shop.example>")))
    assert [letter.subject for letter in letters(tmp_path / "mail")] == ["7", "8", "9"]


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mail-1.json"
    file.write_text("{}")
    file.chmod(0o644)
    with pytest.raises(BadUseError, match="others may read it: chmod 600"):
        load_part(file, MailServer)
