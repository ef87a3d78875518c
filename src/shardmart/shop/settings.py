"""What an instance is told: one JSON file, read once at its start.

It holds addresses, secrets and limits, and never a default for a secret.  Each service has a file of its own with the
secrets it needs; `README.md` beside this file says which keys a service reads.  A file with secrets is its owner's
alone (mode 0600); one that names a `secrets_folder` has none in it, and `{secret:NAME}` stands for what the file
NAME.password of that folder holds (Kubernetes: a ConfigMap beside a mounted Secret).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardmart.errors import BadUseError

SERVICES = ("order", "inventory", "payment", "notification", "catalogue", "provider", "console")
Service = Literal["order", "inventory", "payment", "notification", "catalogue", "provider", "console"]

PORTS: dict[str, int] = {
    "catalogue": 3000,
    "order": 3001,
    "inventory": 3002,
    "payment": 3003,
    "notification": 3004,
    "provider": 3010,
    "console": 8080,
}
"""Where callers find each service: the load balancer's listeners, and the provider's and the console's own."""

NEGATIVE_CONTROL = "SHARDMART_NEGATIVE_CONTROL"
Fault = Literal[
    "acknowledge-before-effect",
    "outbox-outside-transaction",
    "charge-without-idempotency",
    "relay-without-acknowledgement",
]
PLACE = re.compile(r"\{secret:([a-z][a-z0-9-]*)\}")
Secret = Annotated[str, Field(min_length=16)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s]*)?$")]


class Part(BaseModel):
    """A part of the file: unknown keys are refused, so that a misspelt one is not silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SomePart = TypeVar("SomePart", bound=Part)


class Places(Part):
    """Which sequences of events there are; regions are the data model's, in its order."""

    regions: tuple[str, ...] = ("APJ", "EMEA", "LATAM")
    lanes_per_region: int = Field(default=2, ge=1, le=64)
    """Events of one region are handled in so many independent sequences.  Never change it on a shop that has events."""


class MongoDB(Places):
    """The cluster, which is the store, too, unless the file has `store`.  `uri` is of the service's own user."""

    uri: str
    database: str = "ecommerce"


class Server(Part):
    """A server that speaks PostgreSQL's protocol, and who asks it."""

    host: str = "127.0.0.1"
    """Several with commas between them: whichever answers, or takes writes."""
    port: Annotated[int, Field(ge=1, le=65535)] | Annotated[str, Field(pattern=r"^[0-9]{1,5}(,[0-9]{1,5})+$")] = 5432
    """One for all hosts, or as many with commas between them."""
    database: str
    user: str
    password: Secret
    sslmode: Literal["prefer", "require", "verify-full"] = "prefer"
    """libpq's; the certificate authority is `ca_file`, else libpq's default or $PGSSLROOTCERT."""
    ca_file: Path | None = None
    """The authority of the servers' certificates; with it, one without such a certificate and its name in it is not
    spoken to."""


class Postgres(Server):
    """The catalogue's structured part in PostgreSQL: the catalogue's own user, who may read it and nothing else."""

    database: str = "catalogue"
    user: str = "shop_catalogue"
    flavour: Literal["plain", "citus"] = "plain"
    """Which tables the seeder makes; questions are the same for both."""


class Relational(Server, Places):
    """The store on PostgreSQL's protocol: the service's own user there."""

    database: str = "shop"
    flavour: Literal["plain", "citus", "cockroach"] = "plain"


class Kafka(Part):
    """The brokers with the event log, and the service's own user there."""

    brokers: tuple[Annotated[str, Field(pattern=r"^[^\s,]+:[0-9]+$")], ...] = Field(min_length=1)
    user: str
    password: Secret
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "shop-events"
    replicas: int = Field(default=1, ge=1, le=7)
    """Copies of each event; where there are more than two, one may be away and nothing waits."""
    ca_file: Path | None = None
    """The authority of the brokers' certificates; null: no TLS, for brokers on this machine."""


class Urls(Part):
    """Base URLs of the services as callers reach them: the load balancer's."""

    order: Url = "http://127.0.0.1:3001"
    inventory: Url = "http://127.0.0.1:3002"
    payment: Url = "http://127.0.0.1:3003"
    notification: Url = "http://127.0.0.1:3004"
    catalogue: Url = "http://127.0.0.1:3000"


class Tokens(Part):
    """Keys of the bearer tokens (HS256): the first signs, every one verifies, so a key can be replaced in two steps."""

    keys: tuple[Annotated[str, Field(min_length=32)], ...] = Field(min_length=1)


class Provider(Part):
    """The payment provider: where it is, what it knows us by, and what signs its webhooks."""

    url: Url
    api_key: Secret
    webhook_secret: Secret
    timeout_seconds: float = Field(default=2.0, gt=0, le=60)


class Smtp(Part):
    """The mail server that notifications go to, and who sends them."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    sender: str = "shop@shop.example"
    operator: str = "operator@shop.example"
    """Who is told that stock is low."""
    user: str | None = None
    """Who logs in; null: nobody has to."""
    password: Secret | None = None
    security: Literal["none", "starttls"] = "none"
    """`starttls`: the server's certificate is checked, and nothing is sent without it."""


class Webhook(Part):
    """Somebody else's endpoint that is told of every notification, signed with `secret`."""

    url: Url
    secret: Secret


class ClusterView(Part):
    """What the console shows of the cluster: replica sets with their members' addresses, and the documents of each.

    `uri` is of a user who reads no document, as `monitor`.
    """

    uri: str
    members: dict[str, tuple[str, ...]]
    database: str = "ecommerce"


class Limits(Part):
    """Bounds on what callers may ask of one instance."""

    body_bytes: int = Field(default=65_536, ge=1024)
    requests_per_second: float = Field(default=200.0, gt=0)
    """Of one caller (token subject, or address where there is no token), on one instance."""
    burst: int = Field(default=400, ge=1)
    store_seconds: float = Field(default=5.0, gt=0)
    """How long a request waits for the store before it is answered 503 with Retry-After."""


class Settings(Part):
    """The whole file."""

    mongodb: MongoDB | None = None
    store: Relational | None = None
    """Where orders, stock, payments, notifications and events are; null: in MongoDB."""
    postgres: Postgres | None = None
    """Where the catalogue's products are; null: in MongoDB like everything else."""
    ring_settings: Path | None = None
    """File of the settings of the ring that has the carts (`shardmart.ring`), read again when the ring has other nodes
    than it says; null: carts are in MongoDB."""
    kafka: Kafka | None = None
    """Where events are followed; null: in the store."""
    cache: Literal["redis", "redis-cluster", "memory"] = "memory"
    redis_url: str | None = None
    """Of a cluster with the addresses of its nodes: redis://USER:PASSWORD@HOST:PORT,HOST:PORT,…  With TLS
    rediss://…/0?ssl_ca_certs=FILE, the authority that certificates are checked by."""
    tokens: Tokens
    urls: Urls = Urls()
    instances: dict[str, tuple[Url, ...]] = {}
    """Service → base URL of each instance, past the load balancer.  Read by the console only."""
    cluster: ClusterView | None = None
    """Read by the console only; null: it shows the services alone."""
    chaos_records: Path | None = None
    """The folder with the records of faults on this machine.  Read by the console only."""
    provider: Provider | None = None
    smtp: Smtp | None = None
    mailbox: Path | None = None
    """The folder where a mail server of this machine keeps what it takes.  Read by commands only."""
    webhook: Webhook | None = None
    low_stock_threshold: int = Field(default=5, ge=0)
    reservation_seconds: float = Field(default=900, gt=0)
    lease_seconds: float = Field(default=10, ge=1)
    """An instance that did not answer for so long loses its lanes to the others."""
    catalogue_fresh_seconds: float = Field(default=0.25, ge=0)
    """How old an answer of the catalogue may be; 0 asks the stores every time."""
    source_seconds: float = Field(default=0.5, gt=0)
    """How long the catalogue waits for PostgreSQL, MongoDB and Redis each, where products are in PostgreSQL."""
    drain_seconds: float = Field(default=2.0, ge=0)
    """Between SIGTERM and the end of listening: /readyz says 503, so that the load balancer looks away first."""
    limits: Limits = Limits()
    data_folder: Path | None = None
    """Where the provider keeps its ledger."""
    faults: frozenset[Fault] = frozenset()
    """Negative controls: mistakes that the ledger must catch.  Refused unless $SHARDMART_NEGATIVE_CONTROL is `yes`."""


def load(file: Path) -> Settings:
    """Read the file of an instance, as `load_part` does."""
    return load_part(file, Settings)


def load_part(file: Path, part: type[SomePart]) -> SomePart:
    """Read a file that is this part; BadUseError naming the key that is wrong, and when others may read secrets."""
    try:
        text, mode = file.read_text(), file.stat().st_mode
    except OSError as error:
        raise BadUseError(f"cannot read {file}: {error.strerror}") from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadUseError(f"{file} is not JSON: line {error.lineno}: {error.msg}") from None
    folder = document.pop("secrets_folder", None) if isinstance(document, dict) else None
    if folder is not None:
        document = _filled(document, Path(str(folder)))
    elif mode & 0o077:
        raise BadUseError(f"{file} holds secrets and others may read it: chmod 600 {file}")
    try:
        return part.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise BadUseError(f"{file}: {key or 'the file'}: {first['msg']}") from None


def _filled(value: Any, folder: Path) -> Any:
    """The same plain data with each `{secret:NAME}` replaced; in a URL its characters are escaped."""
    if isinstance(value, dict):
        return {key: _filled(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, folder) for one in value]
    if not isinstance(value, str):
        return value

    def secret(found: re.Match[str]) -> str:
        content = _secret(folder / f"{found[1]}.password")
        return quote(content, safe="") if "://" in value else content

    return PLACE.sub(secret, value)


def _secret(file: Path) -> str:
    """The content of a file that everybody may not read; BadUseError."""
    try:
        if file.stat().st_mode & 0o007:
            raise BadUseError(f"{file} is a secret and everybody may read it")
        return file.read_text().strip()
    except OSError as error:
        raise BadUseError(f"cannot read the secret {file}: {error.strerror}") from None
