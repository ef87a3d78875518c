"""The topic of the events: the connection to its brokers, whether it is there, which one it is, and its making."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest  # type: ignore[import-untyped]

from shardmart.errors import BadUseError
from shardmart.tasks import StrayCancellationError, closed, no_stray_cancellation

from ...ports import StoreError
from ...settings import Kafka
from .metadata import TopicRequest

UNKNOWN_TOPIC = 3
REQUEST_SECONDS = 10.0
RETENTION = {"cleanup.policy": "delete"}


@contextmanager
def errors_of_the_log() -> Iterator[None]:
    """Turn what the driver raises where the brokers are away into StoreError."""
    try:
        with no_stray_cancellation():
            yield
    except (KafkaError, OSError, TimeoutError, StrayCancellationError) as error:
        raise StoreError(f"Kafka: {type(error).__name__}") from error


def connection(options: Kafka, name: str) -> dict[str, Any]:
    """What aiokafka's clients are told of the brokers.  BadUseError for an authority that cannot be read."""
    context = None
    if options.ca_file is not None:
        try:
            context = ssl.create_default_context(cafile=str(options.ca_file))
        except OSError as error:
            raise BadUseError(f"kafka.ca_file {options.ca_file}: {error.strerror or error}") from None
    return {
        "bootstrap_servers": list(options.brokers),
        "client_id": f"shop-{name}",
        "security_protocol": "SASL_SSL" if context else "SASL_PLAINTEXT",
        "ssl_context": context,
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": options.user,
        "sasl_plain_password": options.password,
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": 10_000,
    }


@dataclass(frozen=True)
class Found:
    """The topic that is there: its id, which no other has that bears its name before or after, and its partitions."""

    id: str
    partitions: int


class Topic:
    """See the module.  Its client is opened when it is first used."""

    def __init__(self, options: Kafka, partitions: int, name: str) -> None:
        """`partitions` is how many it must have: another number would send a key's events elsewhere."""
        self.name, self.options = options.topic, options
        self._partitions, self._client_name = partitions, name
        self._client: Any = None
        self._lock = asyncio.Lock()

    def connection(self) -> dict[str, Any]:
        """See `connection`."""
        return connection(self.options, self._client_name)

    async def look(self) -> Found | None:
        """The topic, None where there is none.  StoreError when no broker answers, or it has grown."""
        answer = await self._ask(TopicRequest(self.name))
        (one,) = answer.to_object()["topics"]
        if one["error_code"] == UNKNOWN_TOPIC:
            return None
        with errors_of_the_log():
            if one["error_code"]:
                raise for_code(one["error_code"])
        found = Found(one["topic_id"].hex(), len(one["partitions"]))
        if found.partitions != self._partitions:
            raise StoreError(
                f"topic {self.name} has {found.partitions} partitions and the shop {self._partitions} lanes: "
                "it must not grow, or the order of events would be lost; delete it, and it is filled from the outbox"
            )
        return found

    async def create(self) -> None:
        """Make it; done when another instance was quicker.  StoreError."""
        settings = RETENTION | {"min.insync.replicas": str(max(1, self.options.replicas - 1))}
        request = CreateTopicsRequest(
            create_topic_requests=[
                (self.name, self._partitions, self.options.replicas, [], list(settings.items())),
            ],
            timeout=int(REQUEST_SECONDS * 1000),
            validate_only=False,
        )
        answer = await self._ask(request)
        (_, code, *_rest) = answer.topic_errors[0]
        with errors_of_the_log():
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)

    async def _ask(self, request: Any) -> Any:
        with errors_of_the_log():
            async with self._lock, asyncio.timeout(2 * REQUEST_SECONDS):
                try:
                    if self._client is None:
                        client = AIOKafkaClient(**self.connection())
                        try:
                            await client.bootstrap()
                        except BaseException:
                            await closed(client.close, "a client of Kafka")
                            raise
                        self._client = client
                    return await self._send(request)
                except BaseException:
                    # The next question goes to whoever answers then.
                    await self._close()
                    raise

    async def _send(self, request: Any) -> Any:
        """Ask whichever broker answers: one that was killed is known for a while as one that is there."""
        brokers = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(brokers)
        for broker in brokers[:-1]:
            with suppress(KafkaConnectionError, NodeNotReadyError):
                return await self._client.send(broker, request)
        return await self._client.send(brokers[-1], request)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await closed(client.close, "a client of Kafka")

    async def close(self) -> None:
        """Give back the connection."""
        await self._close()
