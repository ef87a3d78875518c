"""An authority of the cluster's own and the server certificate it signs, made with `cryptography`.

Keys are EC P-256; the authority signs nothing but this cluster's servers.  It never writes a file and never talks to a
server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
CLOCK_SKEW = timedelta(minutes=5)
"""Servers whose clock is a little behind must not refuse a new certificate."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM; the key is empty where somebody else keeps it."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def combined(self) -> bytes:
        """Key and certificate in one file, as `net.tls.certificateKeyFile` wants them."""
        return self.key + self.certificate


def make_authority(cluster: str, days: int = AUTHORITY_DAYS, *, key: bytes | None = None) -> Pair:
    """A new authority named after the cluster, valid for `days`, with a new key or the one given (PEM).

    ValueError or TypeError for a key that is none.
    """
    private_key = _private_key(key) if key else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} authority")])
    certificate = (
        _builder(name, name, private_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(private_key, hashes.SHA256())
    )
    return _pair(certificate, private_key)


def make_server_certificate(authority: Pair, names: Sequence[str], days: int) -> Pair:
    """A certificate for servers called `names` (DNS names, wildcards or IP addresses), signed by `authority`."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = _private_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sharded-mongodb server")])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), days, issuer.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        # Members are clients of each other.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _pair(certificate, key)


def why_renew(certificate: bytes, authority: bytes, names: Sequence[str], renew_days: int) -> str | None:
    """Why this certificate should be replaced now; None when it is good.

    `certificate` and `authority` are PEM; with the private key in the same file, it is compared too. `authority` may
    hold several certificates, one of which has to have signed.
    """
    try:
        current = x509.load_pem_x509_certificate(certificate)
        issuers = x509.load_pem_x509_certificates(authority)
    except ValueError:
        return "it is not a certificate"
    if not any(_signed_by(current, issuer) for issuer in issuers):
        return "another authority signed it"
    if b"PRIVATE KEY" in certificate and not _has_key(current, certificate):
        return "the private key is not its own"
    left = current.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta(days=renew_days):
        return f"it ends in {left.days} days" if left > timedelta(0) else "it has ended"
    try:
        found = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "it carries no names"
    missing = [name for name in names if _general_name(name) not in found]
    return f"it lacks the name {missing[0]}" if missing else None


@dataclass(frozen=True)
class Description:
    """What may be shown of a certificate. `ends` is a date and time in UTC, ISO 8601."""

    fingerprint: str
    ends: str
    names: list[str]


def describe(certificate: bytes) -> Description:
    """Fingerprint (SHA-256, hexadecimal), end and names of a PEM certificate."""
    found = x509.load_pem_x509_certificate(certificate)
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = []
    else:
        names = [str(name.value) for name in alternatives]
    return Description(fingerprint(certificate), found.not_valid_after_utc.isoformat(), names)


def days_left(certificate: bytes) -> int:
    """Whole days until a PEM certificate ends."""
    return (x509.load_pem_x509_certificate(certificate).not_valid_after_utc - datetime.now(UTC)).days


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a PEM certificate, hexadecimal."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # InvalidSignature, ValueError, TypeError: whatever the reason, it is not of this authority
        return False
    return True


def _has_key(certificate: x509.Certificate, pem: bytes) -> bool:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        key = serialization.load_pem_private_key(pem, password=None).public_key()
    except ValueError:
        return False
    return key.public_bytes(*form) == certificate.public_key().public_bytes(*form)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: int,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(end, latest) if latest else end)  # never beyond its authority
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an EC key")
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    return Pair(
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
