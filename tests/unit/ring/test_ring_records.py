"""Envelope and versions."""

from __future__ import annotations

import pytest

from shardmart.ring.errors import SettingsError, ValueTooLargeError
from shardmart.ring.node.record import MAX_RECORD_BYTES, Record, Version, draft, new_write
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


def test_settings_never_show_a_password() -> None:
    settings = Settings("r", {"n1": "mongodb://u:secret@h:1"}, "mongodb://u:secret@h:2")
    assert "secret" not in repr(settings)


def test_one_address_under_two_names_is_refused() -> None:
    with pytest.raises(SettingsError, match="n1 and n2 are one server"):
        Settings("r", {"n1": "mongodb://h:1", "n2": "mongodb://h:1"}, "mongodb://h:2")
