"""Identifiers that say which data set a document belongs to, and where it stands in it.

An `_id` is an ObjectId laid out by us instead of by the clock (12 bytes, big-endian, so ranges of positions are
ranges of identifiers):

    byte 0      kind: 1 users, 2 products, 3 orders
    bytes 1-4   the seed
    bytes 5-8   position of the user or product
    bytes 9-11  number of the order among its user's orders, 0 for users and products

Drivers put the time in seconds into bytes 0-3; a kind of 1 to 3 there means July 1970 to February 1972, so no
identifier a driver makes is taken for one of ours.  The seed of what a database holds is therefore read from its
documents.
"""

from __future__ import annotations

from struct import Struct

from bson import ObjectId

KINDS: dict[str, int] = {"users": 1, "products": 2, "orders": 3}
"""Collections the loader fills, and the kind their identifiers carry."""

MAXIMUM_SEED = 2**32 - 1
MAXIMUM_USERS = 2**32 - 1
MAXIMUM_ORDERS_PER_USER = 2**24 - 1

_HEAD = Struct(">BII")


def head(kind: int, seed: int, position: int) -> bytes:
    """The first nine bytes: everything but the order's number."""
    return _HEAD.pack(kind, seed, position)


def user_id(seed: int, position: int) -> ObjectId:
    """The `_id` of the user at `position`."""
    return ObjectId(head(1, seed, position) + b"\0\0\0")


def product_id(seed: int, position: int) -> ObjectId:
    """The `_id` of the product at `position`."""
    return ObjectId(head(2, seed, position) + b"\0\0\0")


def order_id(seed: int, user: int, number: int) -> ObjectId:
    """The `_id` of order `number` of the user at position `user`."""
    return ObjectId(head(3, seed, user) + number.to_bytes(3, "big"))


def parse(identifier: ObjectId) -> tuple[int, int, int, int]:
    """(kind, seed, position, number) of one of our identifiers."""
    raw = identifier.binary
    kind, seed, position = _HEAD.unpack_from(raw)
    return kind, seed, position, int.from_bytes(raw[9:], "big")


def seed_bounds(collection: str, seed: int) -> tuple[ObjectId, ObjectId]:
    """The least and the greatest `_id` (both inclusive) that data set `seed` can have in `collection`."""
    start = head(KINDS[collection], seed, 0)[:5]
    return ObjectId(start + b"\0" * 7), ObjectId(start + b"\xff" * 7)


def kind_bounds(collection: str) -> tuple[ObjectId, ObjectId]:
    """The least and the greatest `_id` (both inclusive) that any data set of ours can have in `collection`."""
    start = bytes([KINDS[collection]])
    return ObjectId(start + b"\0" * 11), ObjectId(start + b"\xff" * 11)
