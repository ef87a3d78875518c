"""Envelope and versions."""

from __future__ import annotations

import bson
import pytest

from shardmart.ring.errors import SettingsError, ValueTooLargeError, ValueTypeError
from shardmart.ring.node.record import MAX_RECORD_BYTES, Record, Version, draft, new_write
from shardmart.ring.repair.comparison import BATCH_RECORDS, by_size
from shardmart.ring.settings import Settings


def test_a_version_prints_and_parses() -> None:
    version = Version(7, "u0a")
    assert Version.parse(str(version)) == version


def test_the_number_decides_before_the_name_of_the_write() -> None:
    assert Version(2, "c0") > Version(1, "uf")
    assert Version(2, new_write("u")) > Version(2, new_write("c"))


def test_a_record_survives_its_document() -> None:
    record = Record("key", Version(3, "u1"), {"a": [1]})
    assert Record.of({"_id": "key", **record.document(4)}) == record


def test_fingerprints_tell_writes_apart_and_equal_keys_do_not_matter_by_type() -> None:
    assert Record(1, Version(1, "u1")).fingerprint == Record(1.0, Version(1, "u1")).fingerprint
    assert Record(1, Version(1, "u1")).fingerprint != Record(1, Version(1, "u2")).fingerprint


def test_a_value_that_fits_only_without_its_envelope_is_refused() -> None:
    draft("key", b"x" * (MAX_RECORD_BYTES - 200), deleted=False, kind="u")
    with pytest.raises(ValueTooLargeError):
        draft("key", b"x" * MAX_RECORD_BYTES, deleted=False, kind="u")


def test_the_largest_value_that_is_taken_fits_a_hint_which_has_its_long_key_twice() -> None:
    key = "k" * 200_000
    room = MAX_RECORD_BYTES - 2 * len(key) - 1000
    taken = draft(key, b"x" * room, deleted=False, kind="u")
    hint = {"_id": {"to": "n" * 40, "key": key}, "to": "n" * 40, "key": key, **taken.document(1)}
    assert len(bson.encode(hint)) < 16 << 20
    with pytest.raises(ValueTooLargeError):
        draft(key, b"x" * (room + len(key)), deleted=False, kind="u")


@pytest.mark.parametrize("value", [object(), 1 << 64, {"a": {1, 2}}, {1: 2}, "\ud800"])
def test_a_value_that_bson_cannot_hold_is_refused_with_an_error_of_the_ring(value: object) -> None:
    with pytest.raises(ValueTypeError, match="the value of 'key' cannot be kept"):
        draft("key", value, deleted=False, kind="u")


def test_a_request_of_many_is_bounded_by_bytes_too() -> None:
    drafts = [draft(f"key-{n}", b"x" * (1 << 20), deleted=False, kind="u") for n in range(20)]
    sizes = [len(batch) for batch in by_size(drafts)]
    assert sum(sizes) == 20
    assert max(sizes) == 7
    small = [draft(n, n, deleted=False, kind="u") for n in range(BATCH_RECORDS + 1)]
    assert [len(batch) for batch in by_size(small)] == [BATCH_RECORDS, 1]


def test_settings_never_show_a_password() -> None:
    settings = Settings("r", {"n1": "mongodb://u:secret@h:1"}, "mongodb://u:secret@h:2")
    assert "secret" not in repr(settings)


def test_one_address_under_two_names_is_refused() -> None:
    with pytest.raises(SettingsError, match="n1 and n2 are one server"):
        Settings("r", {"n1": "mongodb://h:1", "n2": "mongodb://h:1"}, "mongodb://h:2")
