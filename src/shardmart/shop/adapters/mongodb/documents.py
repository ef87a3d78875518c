"""Aggregates and events as MongoDB's documents, and back.

Orders share their collection with those of others: there ids are the collection's own (ObjectId, integer or text) and
the customer is a field.  Everywhere else an id is the text that callers see.  Nothing here talks to a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson import ObjectId

from ...domain.events import Aggregate, Event
from ...domain.identifiers import Customer, OrderId, lane_of
from ...domain.notification import Notification
from ...domain.order import Line, Order
from ...domain.payment import Payment
from ...domain.stock import Reservation, Stock

Document = dict[str, Any]
AggregateT = TypeVar("AggregateT", bound=Aggregate)

COLLECTIONS: Mapping[type[Aggregate], str] = {
    Order: "orders",
    Stock: "stock",
    Reservation: "reservations",
    Payment: "payments",
    Notification: "notifications",
}
FOREIGN_VERSION = 1
"""The version of an order that others wrote, which has none."""
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
INT64 = range(-(2**63), 2**63)


def stored_id(text: str) -> ObjectId | int | str:
    """The id that callers see as `text`."""
    if _OBJECT_ID.fullmatch(text):
        return ObjectId(text)
    if _INTEGER.fullmatch(text) and int(text) in INT64:
        return int(text)
    return text


def seen_id(value: object) -> str:
    """The text callers see for an id."""
    return value.hex() if isinstance(value, bytes) else str(value)


def key_of(kind: type[Aggregate], region: str, id_: str) -> Document:
    """The filter that finds an aggregate on the one shard that has it."""
    if kind is Order:
        order = OrderId.parse(id_)
        return {"region": region, "user_id": stored_id(order.customer.user), "_id": stored_id(order.order)}
    if kind is Stock:
        return {"_id": id_}
    return {"region": region, "_id": id_}


def keys_of(kind: type[Aggregate], region: str, ids: Sequence[str]) -> Document:
    """The filter that finds several aggregates of a region on the shards that have them."""
    if len(ids) == 1:
        return key_of(kind, region, ids[0])
    keys = [key_of(kind, region, id_) for id_ in ids]
    query: Document = {"_id": {"$in": [key["_id"] for key in keys]}}
    if kind is Stock:
        return query
    if kind is Order:
        query["user_id"] = {"$in": list({str(key["user_id"]): key["user_id"] for key in keys}.values())}
    return {"region": region} | query


def fields_of(aggregate: Aggregate) -> Document:
    """What of an aggregate is written besides its key."""
    document = {field.name: getattr(aggregate, field.name) for field in fields(aggregate)}
    for name in ("id", "region"):
        del document[name]
    if isinstance(aggregate, Order):
        del document["customer"]
        document["items"] = [
            {
                "product_id": stored_id(line.product),
                "quantity": line.quantity,
                "unit_price_cents": line.unit_price_cents,
            }
            for line in document.pop("lines")
        ]
    if isinstance(aggregate, Reservation):
        document["pieces"] = [{"product": p, "quantity": q} for p, q in aggregate.pieces.items()]
    return document


def aggregate_of(kind: type[AggregateT], document: Document) -> AggregateT:
    """The aggregate in a document; fields that it does not know are left alone."""
    known = {field.name: document[field.name] for field in fields(kind) if field.name in document}
    known["region"] = document.get("region", "")
    known["id"] = seen_id(document["_id"])
    if kind is Order:
        customer = Customer(document["region"], seen_id(document["user_id"]))
        known["id"] = f"{customer}.{seen_id(document['_id'])}"
        known["customer"] = str(customer)
        known.setdefault("version", FOREIGN_VERSION)
        known["lines"] = [
            Line(seen_id(item["product_id"]), item["quantity"], item["unit_price_cents"]) for item in document["items"]
        ]
    if kind is Reservation:
        known["pieces"] = {piece["product"]: piece["quantity"] for piece in document["pieces"]}
    return kind(**known)


def document_of(event: Event, lanes: int, at: datetime) -> Document:
    """An event as the outbox keeps it."""
    return {
        "_id": event.id,
        "region": event.region,
        "key": event.key,
        "lane": lane_of(event.key, lanes),
        "type": event.type,
        "producer": event.producer,
        "number": event.number,
        "schema": event.schema,
        "customer": event.customer,
        "trace": event.trace,
        "at": at,
        "data": event.data,
    }


def event_of(document: Mapping[str, Any]) -> Event:
    """The event in a document of the outbox."""
    return Event(
        type=document["type"],
        key=document["key"],
        region=document["region"],
        producer=document["producer"],
        number=document["number"],
        data=document["data"],
        customer=document.get("customer"),
        trace=document.get("trace", ""),
        at=document["at"].replace(tzinfo=document["at"].tzinfo or UTC),
        schema=document["schema"],
    )
