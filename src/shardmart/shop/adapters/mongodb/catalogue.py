"""Products and their metadata, as the catalogue reads them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
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

    async def metadata_page(self, after: str | None, limit: int) -> dict[str, Document]:
        """The same of the products that have metadata, in the order of their ids."""
        query = {"_id": {"$gt": documents.stored_id(after)}} if after else {}
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            cursor = self._metas.find(query).sort("_id", 1).limit(limit)
            return {documents.seen_id(document.pop("_id")): document async for document in cursor}

    async def ping(self) -> None:
        """StoreError unless the shards answer: a router alone would say nothing of them."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            await self._metas.find_one({}, {"_id": 1})

    async def all_products(self, batch: int) -> AsyncIterator[list[Document]]:
        """Every product with its first stock, {"id", "name", "category", "price_cents", "stock"}, by id."""
        with errors_of_the_store():
            found: list[Document] = []
            fields = {"name": 1, "category": 1, "price_cents": 1, "stock": 1}
            async for document in self._products.find({}, fields).sort("_id", 1).batch_size(batch):
                found.append(_product(document) | {"stock": document["stock"]})
                if len(found) == batch:
                    yield found
                    found = []
            if found:
                yield found

    async def add_metadata(self, products: Sequence[Mapping[str, Any]]) -> int:
        """Write metadata for those of the products that have none; returns how many."""
        changes = [
            UpdateOne(
                {"_id": documents.stored_id(product["id"])},
                {"$setOnInsert": made_up(product["name"], product["category"])},
                upsert=True,
            )
            for product in products
        ]
        with errors_of_the_store():
            return (await self._metas.bulk_write(changes, ordered=False)).upserted_count

    async def count(self) -> int:
        """How many products have metadata."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            return await self._metas.count_documents({})


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
