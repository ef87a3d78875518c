"""Mail through a real mail server of this process: at least once, each time under the same Message-ID."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmart.shop.adapters.mail import MailChannel
from shardmart.shop.domain.notification import Notification
from shardmart.shop.settings import Smtp
from tests.support.shop_in_memory import MemoryShop, until
from tests.support.shops import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()


@pytest.fixture
def selling(tmp_path: Path, mailbox: Mailbox) -> MemoryShop:
    made = MemoryShop(tmp_path)
    made.channel = MailChannel(Smtp(port=mailbox.port), 30)  # type: ignore[assignment]
    return made


def test_a_mail_that_the_server_refuses_comes_later_under_the_same_message_id(
    selling: MemoryShop, mailbox: Mailbox
) -> None:
    async def body() -> Notification:
        mailbox.refuse = 2
        async with selling.running():
            order = await selling.place(tea=1)
            await until(lambda: mailbox.messages, "the mail")
            sent = selling.event(order, "order-confirmed").id
            await until(lambda: selling.get(Notification, sent).state == "sent", "its record")
        found: Notification = selling.get(Notification, sent)
        return found

    notification = asyncio.run(body())
    (mail,) = mailbox.messages
    assert (mail["Message-ID"], mail["to"], notification.attempts) == (
        notification.message_id,
        ["ann@shop.example"],
        3,
    )
    assert mail["Subject"] == "Your order is confirmed"
    assert "Total: 3.00" in mail["text"]


def test_a_mail_whose_record_is_lost_comes_twice_under_one_message_id(selling: MemoryShop, mailbox: Mailbox) -> None:
    async def body() -> None:
        async with selling.running():
            order = await selling.place(tea=1)
            await until(lambda: mailbox.messages, "the first mail")
            sent = selling.event(order, "order-confirmed").id
            await until(lambda: selling.get(Notification, sent).state == "sent", "its record")
            # As after the end of a process between the server's 250 and the transaction.
            notification: Notification = selling.get(Notification, sent)
            notification.state, notification.channels = "queued", {"mail": False}
            notification.due_at = selling.memory.clock()

            def again() -> bool:
                for consumer in selling.consumers:
                    consumer.nudge()
                return len(mailbox.messages) == 2

            await until(again, "the second mail")

    asyncio.run(body())
    assert len({mail["Message-ID"] for mail in mailbox.messages}) == 1


def test_a_customer_without_an_address_holds_nothing_up(selling: MemoryShop, mailbox: Mailbox) -> None:
    async def body() -> str:
        async with selling.running():
            order = await selling.place(tea=1)
            selling.memory.customers.clear()
            await until(lambda: "order-confirmed" in selling.told(order), "confirmation")
            sent = selling.event(order, "order-confirmed").id
            await until(lambda: (n := selling.get(Notification, sent)) and n.state == "sent", "its end")
        return order

    asyncio.run(body())
    assert mailbox.messages == []
