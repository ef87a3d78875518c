"""BSON read without decoding it: walk the elements of a document in bytes, and copy documents without some fields.

Used on the hot paths (shard keys of documents being inserted, heads of replies), where decoding every document
would cost more than routing it.  It never trusts a length: every position is checked against the end of the
buffer, and `MalformedDocumentError` is raised instead of reading past it.  Source: bsonspec.org, version 1.1.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from .errors import Code, RouterError

# Top-level fields become Python values; embedded documents stay bytes until somebody looks into them.
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS, tz_aware=False
)
PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_MS, tz_aware=False
)

# Sizes of the values of fixed width, by element type.
FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
_STRINGS = frozenset({0x02, 0x0D, 0x0E})
_DOCUMENTS = frozenset({0x03, 0x04, 0x0F})
_INT32 = struct.Struct("<i").unpack_from

_IDENTITY = frozenset({b"_id"})
_NO_TIME = bytes(8)
_increments = itertools.count(1)

Element = tuple[int, int, int]  # element type, start and end of its value
MAXIMUM_DOCUMENT_BYTES = 16 * 1024 * 1024 + 16 * 1024


class MalformedDocumentError(RouterError):
    """Bytes that are no BSON document."""

    def __init__(self, message: str):
        super().__init__(Code.InvalidBSON, f"InvalidBSON: {message}")


def _end(data: bytes, start: int) -> int:
    """Where the last byte of the document at `start` is."""
    end = start + int(_INT32(data, start)[0]) - 1
    if end >= len(data) or end < start + 4 or data[end] != 0:
        raise MalformedDocumentError("document length does not match its content")
    return end


def walk(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (name, element type, value start, value end) of the document that begins at `start` of `data`."""
    try:
        position, end = start + 4, _end(data, start)
        while position < end:
            kind = data[position]
            nul = data.index(0, position + 1, end)
            value = nul + 1
            after = value + _value_size(data, kind, value, end)
            if after > end:
                raise MalformedDocumentError("element runs past the end of its document")
            yield data[position + 1 : nul], kind, value, after
            position = after
    except (ValueError, struct.error, IndexError):
        raise MalformedDocumentError("element runs past the end of its document") from None


def _value_size(data: bytes, kind: int, at: int, end: int) -> int:
    fixed = FIXED.get(kind)
    if fixed is not None:
        return fixed
    if kind == 0x0B:  # regular expression: two C strings
        return int(data.index(0, data.index(0, at, end) + 1, end)) + 1 - at
    size: int = _INT32(data, at)[0]
    if kind in _STRINGS and size >= 1:
        return size + 4
    if kind in _DOCUMENTS and size >= 5:
        return size
    if kind == 0x05 and size >= 0:  # binary: length, subtype, bytes
        return size + 5
    if kind == 0x0C and size >= 1:  # DBPointer: string, ObjectId
        return size + 16
    raise MalformedDocumentError(f"element type {kind:#04x} of size {size}")


def find(data: bytes, names: frozenset[bytes], start: int = 0) -> dict[bytes, Element]:
    """Where the fields called `names` are in the document at `start`; stops reading when all are found."""
    found: dict[bytes, Element] = {}
    try:
        position, end = start + 4, _end(data, start)
        while position < end:  # as `walk`, without its generator: this runs for every document inserted
            kind = data[position]
            nul = data.index(0, position + 1, end)
            after = nul + 1 + (FIXED[kind] if kind in FIXED else _value_size(data, kind, nul + 1, end))
            if after > end:
                raise MalformedDocumentError("element runs past the end of its document")
            name = data[position + 1 : nul]
            if name in names and name not in found:
                found[name] = (kind, nul + 1, after)
                if len(found) == len(names):
                    break
            position = after
    except (ValueError, struct.error, IndexError):
        raise MalformedDocumentError("element runs past the end of its document") from None
    return found


def find_path(data: bytes, path: tuple[bytes, ...], start: int = 0) -> Element | None:
    """Where the value at a dotted path is, or the array that stands in its way; None if a step is missing."""
    for depth, name in enumerate(path, 1):
        element = find(data, frozenset({name}), start).get(name)
        if element is None or depth == len(path) or element[0] == 0x04:
            return element
        if element[0] != 0x03:
            return None
        start = element[1]
    return None


def without(data: bytes, names: frozenset[bytes], extra: bytes = b"") -> bytes:
    """The document without the fields `names`, and with the elements of the encoded document `extra` at its end."""
    parts = []
    position = 4
    for name, _, _, after in walk(data):
        if name not in names:
            parts.append(data[position:after])
        position = after
    if extra:
        parts.append(extra[4:-1])
    content = b"".join(parts)
    return struct.pack("<i", len(content) + 5) + content + b"\x00"


def with_identity(document: bytes) -> bytes:
    """The document with an `_id`: its own, or a new ObjectId at its front, as mongos gives it before it targets."""
    if document[5:9] == b"_id\x00" or find(document, _IDENTITY):
        return document
    return struct.pack("<i", len(document) + 17) + b"\x07_id\x00" + ObjectId().binary + document[4:]


def with_times(document: bytes, seconds: int) -> bytes:
    """The document with its empty top-level timestamps set, as a member stores them (`_id` stays as it is)."""
    if _NO_TIME not in document:
        return document
    changed = bytearray(document)
    for name, kind, start, end in walk(document):
        if kind == 0x11 and name != b"_id" and document[start:end] == _NO_TIME:
            changed[start:end] = struct.pack("<II", next(_increments) & 0x7FFFFFFF, seconds)
    return bytes(changed)


def value_of(data: bytes, element: Element) -> Any:
    """The Python value of an element found by `find`."""
    kind, start, end = element
    body = bytes([kind]) + b"v\x00" + data[start:end]
    return bson.decode(struct.pack("<i", len(body) + 5) + body + b"\x00", PLAIN)["v"]


def get(data: bytes, *path: bytes) -> Any:
    """The Python value at a path of field names; None when a step is missing."""
    element = find_path(data, path)
    return value_of(data, element) if element else None


def raw(document: RawBSONDocument) -> bytes:
    """The bytes of a document the driver left undecoded: of one of some kilobytes PyMongo (4.20) gives a view."""
    return bytes(document.raw)


def decode(data: bytes | RawBSONDocument) -> dict[str, Any]:
    """The document, all of it, as a dict."""
    return bson.decode(raw(data) if isinstance(data, RawBSONDocument) else data, PLAIN)


def head(data: bytes | RawBSONDocument) -> dict[str, Any]:
    """The document with its top-level values decoded and embedded documents left as bytes (RawBSONDocument)."""
    return dict(bson.decode(raw(data) if isinstance(data, RawBSONDocument) else data, RAW))


def encode(document: Any) -> bytes:
    """`document` as BSON."""
    return bson.encode(document, codec_options=PLAIN)


def split_documents(data: bytes, start: int, end: int) -> list[bytes]:
    """The BSON documents that fill `data[start:end]` one after the other (a document sequence of OP_MSG)."""
    documents = []
    while start < end:
        after = _end(data, start) + 1
        if after > end or after - start > MAXIMUM_DOCUMENT_BYTES:
            raise MalformedDocumentError("document sequence holds a document of the wrong length")
        documents.append(data[start:after])
        start = after
    return documents
