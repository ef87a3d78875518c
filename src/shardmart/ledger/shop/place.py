"""Where the shop of a state folder is, and what lets the ledger in: its customers' door and the stores behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from shardmart import libpq
from shardmart.cluster.shop import Shop
from shardmart.declare import data_model
from shardmart.errors import UnreachableError
from shardmart.platforms.state import State, cache_url

STORE_USER = "shop-ledger"
"""It reads what the services wrote, and changes nothing (declare/access.yml)."""
STORE_DATABASE = "shop"
"""Of the store on PostgreSQL."""
CACHE_USER = "shop"
TOKEN_SECONDS = 86_400
OPERATOR = "operator"


class NoShopError(UnreachableError):
    """The cluster has no shop."""


@dataclass(frozen=True)
class ShopPlace:
    """Addresses and secrets.  `urls` are the load balancer's; `cache_url` is None without a cache server.

    Of a Redis Cluster it has the addresses of all nodes, with commas.
    """

    urls: Mapping[str, str]
    token_key: str
    provider_key: str
    store_uri: str
    database: str
    regions: tuple[str, ...]
    cache_url: str | None = None

    @classmethod
    def of(cls, state: State, store_uri: str | None = None) -> ShopPlace:
        """The shop of the cluster in `state`.  Raises NoShopError, or StateError for a secret that is not there."""
        shop = state.description().shop
        if shop is None:
            raise NoShopError(f"the cluster in {state.folder} has no shop: `make shop` starts one")
        model = data_model.load(shop=True)
        cache = None
        if shop.caches:
            cache = cache_url(shop, CACHE_USER, state.password("shop-cache"), state.cache_authority)
        return cls(
            dict(shop.urls()),
            state.password("shop-tokens"),
            state.password("shop-provider"),
            store_uri or (_relational(state, shop) if shop.backends.store == "postgres" else state.uri(STORE_USER)),
            model.database,
            model.regions,
            cache,
        )

    def token(self, customer: str | None) -> str:
        """A bearer token for a customer (REGION.USER) or an operator: a JWT, RFC 7519, signed with HS256."""
        now = int(time.time())
        subject = f"customer:{customer}" if customer else OPERATOR
        claims = {"sub": subject, "aud": "shop", "iat": now, "exp": now + TOKEN_SECONDS}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return f"{signed}.{_encoded(hmac.digest(self.token_key.encode(), signed.encode(), hashlib.sha256))}"


def _relational(state: State, shop: Shop) -> str:
    """The URI of the store on PostgreSQL, of a user who may read it: of several servers it is the one with writes."""
    if not shop.postgres_servers:
        raise NoShopError(f"the shop in {state.folder} names no PostgreSQL")
    password = quote(state.password("shop-postgres-ledger"), safe="")
    servers = ",".join(server.address for server in shop.postgres_servers)
    options = {"target_session_attrs": "primary"} if shop.postgres_nodes else {}
    if shop.backends.tls:
        options |= libpq.checked_by(state.store_authority) or {"sslmode": "require"}
    end = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"postgresql://{STORE_USER.replace('-', '_')}:{password}@{servers}/{STORE_DATABASE}{end}"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
