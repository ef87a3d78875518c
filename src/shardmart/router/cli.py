"""The router's command line, with mongos's flag names.

argparse rather than typer, which everything else here uses: the router starts beside the members and has to
listen in a fraction of a second, and mongos's flags (`--bind_ip`, `--keyFile`) are its own.  Exit codes: 0 stopped
by a signal, 1 it could not listen, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import MEMBER_VERSION, NOTICE

if TYPE_CHECKING:
    from .protocol.tls import Tls

log = logging.getLogger("router")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        prog="router",
        description=f"{NOTICE} It serves clusters whose members run MongoDB 6.0.",
        allow_abbrev=False,
        epilog="Exit codes: 0 stopped by a signal, 1 it could not listen, 2 wrong arguments or files.",
    )
    result.add_argument("--version", action="version", version=f"development router for MongoDB {MEMBER_VERSION}")
    result.add_argument("--configdb", required=True, metavar="SET/host:port,...", help="the config servers")
    result.add_argument("--port", type=int, default=27017, help="port to listen on (default 27017)")
    result.add_argument(
        "--bind_ip", default="127.0.0.1", metavar="ADDRESS,...", help="addresses to listen on (default 127.0.0.1)"
    )
    result.add_argument("--ipv6", action="store_true", help="taken as mongos takes it: --bind_ip says where to listen")
    result.add_argument("--nounixsocket", action="store_true", help="taken as mongos takes it: there is no such socket")
    result.add_argument("--keyFile", type=Path, help="the members' keyfile; without it nobody has to authenticate")
    result.add_argument("--logpath", type=Path, help="append the log to this file instead of standard error")
    result.add_argument("--pidfilepath", type=Path, help="write the process id to this file")
    result.add_argument(
        "--setParameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="cursorGraceSeconds=SECONDS, enableLocalhostAuthBypass=true|false",
    )
    tls = result.add_argument_group("TLS")
    tls.add_argument(
        "--tlsMode",
        choices=("disabled", "allowTLS", "preferTLS", "requireTLS"),
        default="disabled",
        help="for clients and members alike; disabled or requireTLS",
    )
    tls.add_argument("--tlsCertificateKeyFile", type=Path, help="PEM file with the router's certificate and key")
    tls.add_argument("--tlsClusterFile", type=Path, help="PEM file to show to members (default: the same)")
    tls.add_argument("--tlsCAFile", type=Path, help="PEM file of the authority that signed the members' certificates")
    tls.add_argument(
        "--tlsAllowConnectionsWithoutCertificates", action="store_true", help="clients need no certificate"
    )
    tls.add_argument(
        "--tlsAllowInvalidHostnames", action="store_true", help="do not compare members' names with certificates"
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the router until a signal ends it; returns the exit code."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        _log_to(options.logpath)
        runner = _prepare(options, arguments)
    except (OSError, ValueError) as error:
        print(f"router: {error}", file=sys.stderr)
        return 2
    try:
        _run(runner(), options)
    except OSError as error:
        print(
            f"router: cannot listen on {options.bind_ip} port {options.port}: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    return 0


def _log_to(path: Path | None) -> None:
    handler: logging.Handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _run(work: Any, options: argparse.Namespace) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)


def _why(error: ssl.SSLError) -> str:
    return getattr(error, "verify_message", "") or error.reason or str(error)


def _tls(options: argparse.Namespace) -> Tls | None:
    """TLS as the flags say; raises ValueError or OSError."""
    if options.tlsMode == "disabled":
        return None
    if options.tlsMode != "requireTLS":
        raise ValueError(f"--tlsMode {options.tlsMode} needs mongos: this router speaks TLS to everybody or to nobody")
    if not options.tlsCertificateKeyFile or not options.tlsCAFile:
        raise ValueError("--tlsMode requireTLS needs --tlsCertificateKeyFile and --tlsCAFile")
    from .protocol.tls import Files, Tls

    files = Files(
        certificate=options.tlsCertificateKeyFile,
        authority=options.tlsCAFile,
        cluster=options.tlsClusterFile or options.tlsCertificateKeyFile,
        clients_need_certificates=not options.tlsAllowConnectionsWithoutCertificates,
        check_names=not options.tlsAllowInvalidHostnames,
    )
    for file in (files.certificate, files.authority, files.cluster):
        file.read_bytes()  # the error of a missing file names it, OpenSSL's does not
    try:
        return Tls(files)
    except ssl.SSLError as error:
        named = ", ".join(sorted({str(files.certificate), str(files.authority), str(files.cluster)}))
        raise ValueError(f"no usable certificate and key in {named}: {_why(error)}") from None


def _prepare(options: argparse.Namespace, arguments: list[str]) -> Any:
    from .protocol import scram
    from .routing.member import Credentials
    from .routing.replica_set import ReplicaSet, parse_connection_string

    if not 0 < options.port < 65536:
        raise ValueError(f"--port takes 1 to 65535, found {options.port}")
    name, seeds = parse_connection_string(options.configdb)
    key = scram.read_keyfile(options.keyFile) if options.keyFile else None
    tls = _tls(options)
    parameters = dict(item.partition("=")[::2] for item in options.setParameter)
    known = ("cursorGraceSeconds", "enableLocalhostAuthBypass")
    unknown = parameters.keys() - {*known, "suppressNoTLSPeerCertificateWarning"}
    if unknown:
        raise ValueError(f"--setParameter knows {' and '.join(known)}, found {', '.join(sorted(unknown))}")
    if parameters.get("enableLocalhostAuthBypass", "true") not in ("true", "false"):
        raise ValueError("--setParameter enableLocalhostAuthBypass takes true or false")
    parameters.pop("suppressNoTLSPeerCertificateWarning", None)  # mongos has it; there is no such warning here
    settings = {
        "argv": ["router", *arguments],
        "port": options.port,
        "bind_ip": options.bind_ip,
        "configdb": options.configdb,
    }

    async def serve() -> None:
        from . import commands
        from .client import Client
        from .operations.service import Service

        assert commands
        credentials = Credentials(key, tls)
        service = Service(ReplicaSet(name, seeds, credentials), credentials, {**settings, **parameters})
        loop = asyncio.get_running_loop()
        addresses = [address.strip() for address in options.bind_ip.split(",")]
        server = await loop.create_server(
            lambda: Client(service), addresses, options.port, ssl=tls.listener if tls else None, backlog=1024
        )
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGUSR1, _log_to, options.logpath)  # as mongos with logRotate "reopen"
        if options.pidfilepath:
            options.pidfilepath.write_text(f"{os.getpid()}\n")
        log.info("%s", NOTICE)
        log.info("listening on %s port %d, config servers %s", options.bind_ip, options.port, options.configdb)
        await stopped.wait()
        log.info("stopping: a signal asked for it")
        server.close()
        service.close()

    return serve
