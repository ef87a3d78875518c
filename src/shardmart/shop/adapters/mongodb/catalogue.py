"""Products and their metadata, as the catalogue reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pymongo
from pymongo import UpdateOne

from . import documents
from .client import Database, Document, errors_of_the_store


class MongoCatalogue:
    """`products` and `productmetas`.  A product is asked of its own shard; a page of them of all."""

    def __init__(self, database: Database, seconds: float = 2.0) -> None:
        self._products, self._metas = database["products"], database["productmetas"]
        self._seconds = seconds

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[Document]:
        """Products by id: {"id", "name", "category", "price_cents"}; those whose name holds `text`."""
        query: Document = {}
        if after is not None:
            query["_id"] = {"$gt": documents.stored_id(after)}
        if text:
            query["name"] = {"$regex": re.escape(text), "$options": "i"}
        if category:
            query["category"] = category
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            fields = {"name": 1, "category": 1, "price_cents": 1}
            cursor = self._products.find(query, fields).sort("_id", 1).limit(limit)
            return [_product(document) async for document in cursor]

    async def product(self, id_: str) -> Document | None:
        """One product."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            document = await self._products.find_one({"_id": documents.stored_id(id_)})
        return _product(document) if document else None

    async def metadata(self, ids: Sequence[str]) -> dict[str, Document]:
        """{"description", "tags", "specifications"} by product."""
        query = {"_id": {"$in": [documents.stored_id(id_) for id_ in ids]}}
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            return {documents.seen_id(document.pop("_id")): document async for document in self._metas.find(query)}

    async def metadata_page(self, after: str | None, limit: int) -> list[str]:
        """Ids of products that have metadata: what there is to show while `products` is away."""
        query = {"_id": {"$gt": documents.stored_id(after)}} if after else {}
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            cursor = self._metas.find(query, {"_id": 1}).sort("_id", 1).limit(limit)
            return [documents.seen_id(document["_id"]) async for document in cursor]

    async def seed_metadata(self) -> int:
        """Write metadata for products that have none; returns how many."""
        written = 0
        with errors_of_the_store():
            batch: list[UpdateOne] = []
            async for product in self._products.find({}, {"name": 1, "category": 1}):
                change = {"$setOnInsert": made_up(product["name"], product["category"])}
                batch.append(UpdateOne({"_id": product["_id"]}, change, upsert=True))
                if len(batch) == 500:
                    written += (await self._metas.bulk_write(batch, ordered=False)).upserted_count
                    batch = []
            if batch:
                written += (await self._metas.bulk_write(batch, ordered=False)).upserted_count
        return written


def made_up(name: str, category: str) -> dict[str, Any]:
    """Metadata as a seller would write it, the same each time."""
    words = name.split()
    return {
        "description": f"{name}. From our {category.lower()} department.",
        "tags": sorted({category.lower(), words[-1].lower()}),
        "specifications": {"maker": words[0], "category": category, "warranty_months": 24},
    }


def _product(document: Document) -> Document:
    return {
        "id": documents.seen_id(document["_id"]),
        "name": document["name"],
        "category": document["category"],
        "price_cents": document["price_cents"],
    }
