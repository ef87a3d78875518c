"""The router's TLS: who it talks to as a client of members, and how it takes a new certificate into use."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from shardmart.cluster.host import certificates
from shardmart.router.protocol.errors import MemberUnreachableError
from shardmart.router.protocol.tls import Tls
from shardmart.router.routing.member import Credentials, Member


@pytest.fixture
def authority() -> certificates.Pair:
    return certificates.make_authority("test")


def files(folder: Path, authority: certificates.Pair, names: list[str], **switches: bool) -> Tls:
    """A folder with the authority and a server certificate for `names`."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(authority.certificate)
    renew(folder, authority, names)
    return Tls(folder / "server.pem", folder / "ca.pem", **switches)


def renew(folder: Path, authority: certificates.Pair, names: list[str]) -> str:
    made = certificates.make_server_certificate(authority, names, 1)
    (folder / "server.pem").write_bytes(made.combined)
    return certificates.fingerprint(made.certificate)


async def reached(server: Tls, client: Tls) -> str | None:
    """Connect a router's `Member` to a listener; why that failed, None when it did not."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=server.listener)
    port = listener.sockets[0].getsockname()[1]
    try:
        connection = await Member(f"127.0.0.1:{port}", Credentials(None, client)).connect()
    except MemberUnreachableError as error:
        return error.message
    finally:
        listener.close()
    connection.close()
    return None


@pytest.mark.parametrize(
    ("names", "check_names", "reason"),
    [
        (["127.0.0.1"], True, None),
        (["elsewhere.example"], True, "certificate verify failed: IP address mismatch"),
        (["elsewhere.example"], False, None),
    ],
)
def test_member_must_have_the_name_it_is_called_by(
    tmp_path: Path, authority: certificates.Pair, names: list[str], check_names: bool, reason: str | None
) -> None:
    member = files(tmp_path / "member", authority, names, clients_need_certificates=False)
    router = files(tmp_path / "router", authority, ["127.0.0.1"], check_names=check_names)
    why = asyncio.run(reached(member, router))
    assert (why is None) == (reason is None)
    assert reason is None or reason in str(why)


def test_member_of_another_authority_is_not_spoken_to(tmp_path: Path, authority: certificates.Pair) -> None:
    member = files(tmp_path / "member", certificates.make_authority("other"), ["127.0.0.1"])
    router = files(tmp_path / "router", authority, ["127.0.0.1"])
    assert "certificate verify failed" in str(asyncio.run(reached(member, router)))


async def shown(listening: Tls, authority: Path) -> str:
    """Fingerprint of the certificate a client sees."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=listening.listener)
    context = ssl.create_default_context(cafile=str(authority))
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    server.close()
    return certificates.fingerprint(ssl.DER_cert_to_PEM_cert(certificate).encode())


def test_rotation_changes_what_the_next_client_sees(tmp_path: Path, authority: certificates.Pair) -> None:
    tls = files(tmp_path / "tls", authority, ["127.0.0.1"], clients_need_certificates=False)
    before, members = asyncio.run(shown(tls, tmp_path / "tls" / "ca.pem")), tls.members
    new = renew(tmp_path / "tls", authority, ["127.0.0.1"])
    assert asyncio.run(shown(tls, tmp_path / "tls" / "ca.pem")) == before != new
    tls.rotate()
    assert asyncio.run(shown(tls, tmp_path / "tls" / "ca.pem")) == new
    assert tls.members is not members


def test_end_of_the_certificate_is_known(tmp_path: Path, authority: certificates.Pair) -> None:
    tls = files(tmp_path / "tls", authority, ["127.0.0.1"])
    ends = certificates.describe((tmp_path / "tls" / "server.pem").read_bytes()).ends
    assert tls.end.isoformat() == ends


def test_broken_files_change_nothing(tmp_path: Path, authority: certificates.Pair) -> None:
    tls = files(tmp_path / "tls", authority, ["127.0.0.1"], clients_need_certificates=False)
    before, end = asyncio.run(shown(tls, tmp_path / "tls" / "ca.pem")), tls.end
    good = (tmp_path / "tls" / "server.pem").read_bytes()
    other = certificates.make_server_certificate(authority, ["127.0.0.1"], 2)
    ended = certificates.make_server_certificate(authority, ["127.0.0.1"], 0)
    foreign = certificates.make_server_certificate(certificates.make_authority("other"), ["127.0.0.1"], 1)
    mixed = good[: good.index(b"-----BEGIN CERT")] + other.certificate
    for broken in (b"", good[: len(good) // 2], mixed, ended.combined, foreign.combined):
        (tmp_path / "tls" / "server.pem").write_bytes(broken)
        with pytest.raises(OSError):  # noqa: PT011  ssl.SSLError and its kin
            tls.rotate()
        assert asyncio.run(shown(tls, tmp_path / "tls" / "ca.pem")) == before
        assert tls.end == end
