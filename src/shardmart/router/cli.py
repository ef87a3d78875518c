"""The router's command line, with mongos's flag names.

argparse rather than typer, which everything else here uses: the router starts beside the members and has to
listen in a fraction of a second, and mongos's flags (`--bind_ip`, `--keyFile`) are its own.  Exit codes: 0 stopped
by a signal, 1 it could not listen, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from . import MEMBER_VERSION, NOTICE, commands  # noqa: F401  # their table is filled by its import
from .client import Client
from .operations.service import Service
from .protocol import scram
from .protocol.tls import Tls
from .routing.member import Credentials
from .routing.replica_set import ReplicaSet, parse_connection_string

log = logging.getLogger("router")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        prog="router", description=f"{NOTICE} It serves clusters whose members run MongoDB 6.0.", allow_abbrev=False,
        epilog="Exit codes: 0 stopped by a signal, 1 it could not listen, 2 wrong arguments or files.",
    )  # fmt: skip
    add = result.add_argument
    add("--version", action="version", version=f"development router for MongoDB {MEMBER_VERSION}")
    add("--configdb", required=True, metavar="SET/host:port,...", help="the config servers")
    add("--port", type=int, default=27017, help="port to listen on (default 27017)")
    add("--bind_ip", default="127.0.0.1", metavar="ADDRESS,...", help="where to listen (default 127.0.0.1)")
    add("--ipv6", action="store_true", help="taken as mongos takes it: --bind_ip says where to listen")
    add("--nounixsocket", action="store_true", help="taken as mongos takes it: there is no such socket")
    add("--keyFile", type=Path, help="the members' keyfile; without it nobody has to authenticate")
    add("--logpath", type=Path, help="append the log to this file instead of standard error")
    known = "cursorGraceSeconds=SECONDS, enableLocalhostAuthBypass=false"
    add("--setParameter", action="append", default=[], metavar="NAME=VALUE", help=known)
    add = result.add_argument_group("TLS").add_argument
    modes = ("disabled", "allowTLS", "preferTLS", "requireTLS")
    add("--tlsMode", choices=modes, default="disabled", help="for clients and members alike: disabled or requireTLS")
    add("--tlsCertificateKeyFile", type=Path, help="PEM file with the router's certificate and key")
    add("--tlsCAFile", type=Path, help="PEM file of the authority that signed the members' certificates")
    add("--tlsAllowConnectionsWithoutCertificates", action="store_true", help="clients need no certificate")
    add("--tlsAllowInvalidHostnames", action="store_true", help="members' names are not held against certificates")
    return result


def main(arguments: list[str]) -> int:
    """Run the router until a signal ends it; returns the exit code."""
    try:
        options = parser().parse_args(arguments)
        _log_to(options.logpath)
        service = _service(options, {"argv": ["router", *arguments]})
    except SystemExit as stop:
        return int(stop.code or 0)
    except (OSError, ValueError) as error:
        print(f"router: {error}", file=sys.stderr)
        return 2
    try:
        run: Any = asyncio.run
        with contextlib.suppress(ImportError):
            run = importlib.import_module("uvloop").run
        run(_serve(service, options))
    except OSError as error:
        where = f"{options.bind_ip} port {options.port}"
        print(f"router: cannot listen on {where}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _log_to(path: Path | None) -> None:
    handler: logging.Handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _tls(options: argparse.Namespace) -> Tls | None:
    """TLS as the flags say; raises ValueError or OSError."""
    if options.tlsMode == "disabled":
        return None
    if options.tlsMode != "requireTLS":
        raise ValueError(f"--tlsMode {options.tlsMode} needs mongos: this router speaks TLS to everybody or to nobody")
    if not options.tlsCertificateKeyFile or not options.tlsCAFile:
        raise ValueError("--tlsMode requireTLS needs --tlsCertificateKeyFile and --tlsCAFile")
    named = (options.tlsCertificateKeyFile, options.tlsCAFile)
    for file in named:
        file.read_bytes()  # the error of a missing file names it, OpenSSL's does not
    try:
        return Tls(
            *named, clients_need_certificates=not options.tlsAllowConnectionsWithoutCertificates,
            check_names=not options.tlsAllowInvalidHostnames,
        )  # fmt: skip
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise ValueError(f"no usable certificate and key in {', '.join(map(str, named))}: {why}") from None


def _service(options: argparse.Namespace, settings: dict[str, Any]) -> Service:
    """What the flags say, ready to be served; raises ValueError or OSError."""
    if not 0 < options.port < 65536:
        raise ValueError(f"--port takes 1 to 65535, found {options.port}")
    parameters = dict(item.partition("=")[::2] for item in options.setParameter)
    parameters.pop("suppressNoTLSPeerCertificateWarning", None)  # mongos has it; there is no such warning here
    known = ("cursorGraceSeconds", "enableLocalhostAuthBypass")
    if unknown := parameters.keys() - known:
        raise ValueError(f"--setParameter knows {' and '.join(known)}, found {', '.join(sorted(unknown))}")
    if parameters.get("enableLocalhostAuthBypass", "false") != "false":
        raise ValueError("--setParameter enableLocalhostAuthBypass takes false: make the first user on a config server")
    settings |= {k: getattr(options, k) for k in ("port", "bind_ip", "configdb")} | parameters
    name, seeds = parse_connection_string(options.configdb)
    key = scram.read_keyfile(options.keyFile) if options.keyFile else None
    credentials = Credentials(key, _tls(options))
    return Service(ReplicaSet(name, seeds, credentials), credentials, settings)


async def _serve(service: Service, options: argparse.Namespace) -> None:
    """Listen until a signal comes; raises OSError."""
    loop = asyncio.get_running_loop()
    addresses = [address.strip() for address in options.bind_ip.split(",")]
    secured = service.tls.listener if service.tls else None
    server = await loop.create_server(lambda: Client(service), addresses, options.port, ssl=secured, backlog=1024)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, _log_to, options.logpath)  # as mongos with logRotate "reopen"
    log.info("%s", NOTICE)
    log.info("listening on %s port %d, config servers %s", options.bind_ip, options.port, options.configdb)
    await stopped.wait()
    log.info("stopping: a signal asked for it")
    server.close()
    service.close()
