"""When a server certificate is renewed, and what it may be used for."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from shardmart.cluster.host import certificates
from shardmart.cluster.host.certificates import Pair, make_authority, make_server_certificate, why_renew

NAMES = ["localhost", "127.0.0.1", "*.shard1.example"]


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority("test")


def test_good_certificate_is_kept(authority: Pair) -> None:
    server = make_server_certificate(authority, NAMES, 90)
    assert why_renew(server.combined, authority.certificate, NAMES, 30) is None
    assert why_renew(server.combined, authority.certificate, NAMES[:1], 30) is None, "a name too many does no harm"


@pytest.mark.parametrize(("days", "renew_days", "why"), [(30, 31, "it ends in 29 days"), (0, 0, "it has ended")])
def test_end_in_sight_renews(authority: Pair, days: int, renew_days: int, why: str) -> None:
    assert (
        why_renew(make_server_certificate(authority, NAMES, days).combined, authority.certificate, NAMES, renew_days)
        == why
    )


def test_new_name_renews(authority: Pair) -> None:
    server = make_server_certificate(authority, NAMES, 90)
    assert why_renew(server.combined, authority.certificate, [*NAMES, "10.0.0.9"], 30) == "it lacks the name 10.0.0.9"


def test_another_authority_renews(authority: Pair) -> None:
    server = make_server_certificate(make_authority("test"), NAMES, 90)
    assert why_renew(server.combined, authority.certificate, NAMES, 30) == "another authority signed it"


def test_any_authority_of_a_bundle_will_do(authority: Pair) -> None:
    bundle = make_authority("next").certificate + authority.certificate
    assert why_renew(make_server_certificate(authority, NAMES, 90).combined, bundle, NAMES, 30) is None


def test_key_of_another_certificate_renews(authority: Pair) -> None:
    one, other = (make_server_certificate(authority, NAMES, 90) for _ in range(2))
    assert why_renew(one.key + other.certificate, authority.certificate, NAMES, 30) == "the private key is not its own"


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_renews(authority: Pair, content: bytes) -> None:
    assert why_renew(content, authority.certificate, NAMES, 30) == "it is not a certificate"


def test_server_certificate_signs_nothing_and_serves_both_ways(authority: Pair) -> None:
    """Members are servers, and clients of each other; neither may pass for an authority."""
    found = x509.load_pem_x509_certificate(make_server_certificate(authority, NAMES, 90).certificate)
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert found.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False
    usages = {usage.dotted_string for usage in found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
    assert usages == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.shard1.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


def test_certificate_ends_with_its_authority() -> None:
    authority = make_authority("test", days=10)
    ends = x509.load_pem_x509_certificate(make_server_certificate(authority, NAMES, 90).certificate).not_valid_after_utc
    assert ends - datetime.now(UTC) <= timedelta(days=10)


def test_description_shows_no_key(authority: Pair) -> None:
    server = make_server_certificate(authority, NAMES, 90)
    description = certificates.describe(server.combined)
    assert description.names == NAMES
    assert description.fingerprint == certificates.fingerprint(server.certificate)
    assert "KEY" not in str(description) + str(server)
