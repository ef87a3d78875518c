"""Messages and raw BSON: what is built is read back, what is malformed is refused."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import bson
import pytest
from bson import Code, Decimal128, Int64, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import RouterError

names = st.text("abcdefgh", min_size=1, max_size=5)
values = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(Int64),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10),
        st.binary(max_size=10),
        st.none(),
        st.booleans(),
        st.just(ObjectId("0" * 24)),
        st.just(Decimal128("1.5")),
        st.just(Timestamp(1, 2)),
        st.just(Regex("a.b", "i")),
        st.just(Code("f()")),
        st.just(Code("f()", {"a": 1})),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
documents = st.dictionaries(names, values, max_size=6)


@given(documents)
def test_walking_finds_every_element_where_it_is(document: dict[str, Any]) -> None:
    data = rawbson.encode(document)
    found = {n.decode(): rawbson.value_of(data, (kind, start, end)) for n, kind, start, end in rawbson.walk(data)}
    assert found == rawbson.decode(data)


@given(documents, st.sets(names, max_size=3), documents)
def test_fields_are_dropped_and_added_without_decoding(document: Any, dropped: set[str], extra: Any) -> None:
    data = rawbson.without(rawbson.encode(document), frozenset(n.encode() for n in dropped), rawbson.encode(extra))
    kept = {n: v for n, v in rawbson.decode(rawbson.encode(document)).items() if n not in dropped}
    assert rawbson.decode(data) == kept | rawbson.decode(rawbson.encode(extra))


@given(documents, st.lists(documents, max_size=4))
def test_a_message_is_read_back(body: dict[str, Any], sequence: list[dict[str, Any]]) -> None:
    parts = [rawbson.encode(document) for document in sequence]
    message = wire.parse(wire.build(rawbson.encode(body), {"documents": parts}, response_to=9))
    assert (message.body, message.sequences, message.response_to) == (rawbson.encode(body), {"documents": parts}, 9)


@given(documents, st.data())
def test_a_truncated_document_is_refused(document: dict[str, Any], data: st.DataObject) -> None:
    raw = rawbson.encode(document)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(rawbson.MalformedDocumentError):
        list(rawbson.walk(cut))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_but_nothing_else(data: bytes) -> None:
    header = struct.pack("<iiii", len(data) + 16, 1, 0, 2013)
    with contextlib.suppress(wire.MalformedMessageError):
        wire.parse(header + data)
    with contextlib.suppress(rawbson.MalformedDocumentError):
        list(rawbson.walk(data))


@pytest.mark.parametrize("length", [-1, 0, 15, 48_000_001])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(wire.MalformedMessageError):
        wire.take(bytearray(struct.pack("<i", length).ljust(wire.HEADER.size, b"\0")))


def test_the_legacy_hello_is_read_and_answered_in_kind() -> None:
    body = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
    message = wire.parse(struct.pack("<iiii", len(body) + 16, 7, 0, wire.OP_QUERY) + body)
    assert message.legacy
    reply = wire.build_reply(bson.encode({"ok": 1}), message)
    assert struct.unpack_from("<iiii", reply)[2:] == (7, wire.OP_REPLY)
    assert bson.decode(reply[36:]) == {"ok": 1}


def test_a_command_that_is_too_long_for_a_member_is_refused_before_it_is_sent() -> None:
    batch = {"documents": [bson.encode({"x": "a" * 16_000_000})] * 3}
    with pytest.raises(RouterError) as failure:
        wire.command({"insert": "things", "$db": "shop"}, batch)
    assert failure.value.code == 10334
