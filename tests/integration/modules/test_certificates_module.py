"""The `certificates` module: made once, renewed in time, readable by their owner only, keys never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.host import certificates
from tests.support.modules import run_module

NAMES = ["localhost", "127.0.0.1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tls"


def keep(folder: Path, *, check: bool = False, **changes: Any) -> dict[str, Any]:
    return run_module(
        "certificates", check=check, **({"folder": str(folder), "cluster": "c", "names": NAMES} | changes)
    )


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_certificates_are_made_once(folder: Path) -> None:
    planned = keep(folder, check=True)
    assert planned["changed"]
    assert not folder.parent.exists()
    made = keep(folder)
    assert "made a server certificate: there was none" in made["changes"]
    assert made["diff"]["before"] == {}
    assert made["diff"]["after"]["names"] == NAMES
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600}
    before = content(folder)
    again = keep(folder)
    assert not again["changed"]
    assert again["fingerprint"] == made["fingerprint"]
    assert content(folder) == before
    assert "PRIVATE" not in str(made) + str(again)


def test_renewal_keeps_the_authority_and_shows_what_changes(folder: Path) -> None:
    first = keep(folder)
    before = content(folder)
    planned = keep(folder, check=True, renew=True)
    assert planned["changed"]
    assert content(folder) == before
    renewed = keep(folder, renew=True)
    assert renewed["changes"] == ["made a server certificate: it was asked for"]
    assert renewed["diff"]["before"]["fingerprint"] == first["fingerprint"] != renewed["fingerprint"]
    after = content(folder)
    assert {name for name in after if after[name] != before[name]} == {"server.pem"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"renew_days": 91}, "it ends in 89 days"),
        ({"names": [*NAMES, "db.example"]}, "it lacks the name db.example"),
    ],
)
def test_renewal_is_due_for_a_reason(folder: Path, change: dict[str, Any], why: str) -> None:
    keep(folder)
    assert keep(folder, **change)["changes"] == [f"made a server certificate: {why}"]


def test_broken_and_readable_files_are_repaired(folder: Path) -> None:
    keep(folder)
    (folder / "server.pem").write_text("lost")
    (folder / "ca-key.pem").chmod(0o644)
    assert keep(folder)["changes"] == ["ca-key.pem: mode 0600", "made a server certificate: it is not a certificate"]
    assert not keep(folder)["changed"]


def test_another_authoritys_certificate_is_used_until_it_is_due(folder: Path) -> None:
    """A company's own authority: its key is not here."""
    authority = certificates.make_authority("company")
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "server.pem").touch(mode=0o600)
    (folder / "server.pem").write_bytes(certificates.make_server_certificate(authority, NAMES, 60).combined)
    assert not keep(folder)["changed"]
    refused = keep(folder, renew_days=61)
    assert "it ends in 59 days" in refused["msg"]
    assert "no ca-key.pem is there" in refused["msg"]


def test_lost_authority_is_never_replaced_in_silence(folder: Path) -> None:
    keep(folder)
    (folder / "ca.pem").unlink()
    before = content(folder)
    assert "ca.pem is missing" in keep(folder)["msg"]
    assert content(folder) == before


def test_run_killed_before_the_authoritys_certificate_is_finished_with_its_key(folder: Path) -> None:
    keep(folder)
    key = (folder / "ca-key.pem").read_bytes()
    (folder / "server.pem").unlink()
    (folder / "ca.pem").unlink()
    assert keep(folder)["changes"] == [
        "made the authority's certificate, its key was there",
        "made a server certificate: there was none",
    ]
    assert (folder / "ca-key.pem").read_bytes() == key
    assert not keep(folder)["changed"]


def test_lost_authority_of_servers_that_have_a_certificate_is_not_replaced(folder: Path) -> None:
    keep(folder)
    (folder / "ca.pem").unlink()
    assert "ca.pem is missing and server.pem is there" in keep(folder)["msg"]
