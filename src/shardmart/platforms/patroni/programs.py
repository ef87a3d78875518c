"""What Patroni's store runs with: etcd of this machine or built from pinned Go modules, Patroni of the lock file.

Where we are root the servers run as another user: what that one cannot reach is copied to its folder, as the server's
wheel is.  Nothing here starts a server.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ...cluster.errors import ClusterError
from ..maven import MissingError
from ..postgres import Host
from ..postgres.programs import environment as without_postgres
from ..postgres.programs import open_to_all
from .go_modules import GO_MOD, GO_SUM, PACKAGE, VERSION

OLDEST = (3, 5)
"""Of an etcd on PATH."""
BUILD_SECONDS = 1500
INSTEAD = "or leave the topology's `postgres_nodes` at 1"
PACKAGES = (
    *("click", "dnspython", "patroni", "prettytable", "psutil", "psycopg", "psycopg-binary", "python-dateutil"),
    *("python-etcd", "PyYAML", "typing-extensions", "urllib3", "wcwidth", "ydiff"),
)
"""Patroni, with what it imports to speak to etcd and PostgreSQL."""
TRY = "import patroni.__main__, patroni.dcs.etcd3, psycopg, yaml"
NOT_COPIED = ("__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tkinter")
FOREIGN = ("PATRONI_", "ETCD_", "PYTHON")


def environment() -> dict[str, str]:
    """Ours without what would lead Patroni, etcd or PostgreSQL elsewhere."""
    kept = {name: value for name, value in without_postgres().items() if not name.startswith(FOREIGN)}
    # Neither speaks to anybody but this machine's loopback, nor shows a certificate of whoever called us.
    return kept | {"no_proxy": "*", "NO_PROXY": "*", "PGSSLCERTMODE": "disable"}


def etcd(host: Host) -> Path | None:
    """The etcd that the servers' user runs; None where there is none yet."""
    found = _on_path() or _built(host.binaries)
    if not found.exists():
        return None
    if host.account is None:
        return found
    copied = host.home / f"program-etcd-{hashlib.sha256(str(found).encode()).hexdigest()[:12]}" / "etcd"
    return copied if copied.exists() else None


def have_etcd(host: Host) -> Path:
    """Have it: built where PATH has none.  MissingError, in a line, where it cannot be; `host.home` is there."""
    found = _on_path() or _built(host.binaries)
    if not found.exists():
        _build(found)
    if host.account is not None:
        copied = host.home / f"program-etcd-{hashlib.sha256(str(found).encode()).hexdigest()[:12]}"
        if not copied.exists():
            partial = host.home / ".program-etcd.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o755)
            shutil.copy2(found, partial / "etcd")
            open_to_all(partial)
            partial.rename(copied)
    made = etcd(host)
    if made is None:
        raise ClusterError(f"{found} is not there: another run removed it? Run this again")
    return made


def _on_path() -> Path | None:
    found = shutil.which("etcd")
    if found is None:
        return None
    try:
        said = subprocess.run([found, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"etcd Version: (\d+)\.(\d+)", said)
    return Path(found) if version and (int(version[1]), int(version[2])) >= OLDEST else None


def _built(binaries: Path) -> Path:
    """Where the built one is: another folder for every lock."""
    return binaries / f"etcd-{VERSION}-{hashlib.sha256((GO_MOD + GO_SUM).encode()).hexdigest()[:12]}" / "etcd"


def _build(program: Path) -> None:
    """Build etcd from the modules that are pinned, each of which Go compares with its hash."""
    go = shutil.which("go")
    needed = f"install etcd {OLDEST[0]}.{OLDEST[1]} or newer or Go {re.findall(r'^go (.*)$', GO_MOD, re.MULTILINE)[0]}"
    if go is None:
        raise MissingError(
            f"Patroni needs etcd, and neither etcd {OLDEST[0]}.{OLDEST[1]} nor go, which builds it, is on PATH: "
            f"{needed}, {INSTEAD}"
        )
    binaries = program.parent.parent
    binaries.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=binaries, prefix=".building-") as temporary:
        source, made = Path(temporary), Path(temporary) / "made"
        made.mkdir(mode=0o755)
        (source / "go.mod").write_text(GO_MOD)
        (source / "go.sum").write_text(GO_SUM)
        own = {"GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        command = [go, "build", "-trimpath", "-buildvcs=false", "-o", str(made / "etcd"), PACKAGE]
        try:
            subprocess.run(  # noqa: S603
                command, cwd=source, env=os.environ | own, check=True, capture_output=True, text=True,
                timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split())[-300:] or "it said nothing"
            raise MissingError(f"Go cannot build etcd {VERSION}: {said}; {needed}, {INSTEAD}") from None
        except subprocess.TimeoutExpired:
            raise MissingError(f"Go did not build etcd within {BUILD_SECONDS} s; run it again, {INSTEAD}") from None
        try:
            made.rename(program.parent)
        except OSError:
            if not program.exists():  # else another run was quicker
                raise


def python(host: Host) -> tuple[str, dict[str, str]] | None:
    """The Python with Patroni that the servers' user runs, and its environment; None where it has to be copied."""
    if host.account is None or _runs(host, sys.executable, {}):
        return sys.executable, {}
    folder = _copy(host)
    return _copied(folder) if folder.exists() else None


def have_python(host: Host) -> tuple[str, dict[str, str]]:
    """Have it, copied where the user cannot reach ours.  ClusterError where Patroni is not installed."""
    _distribution("patroni")
    if (found := python(host)) is None:
        partial, folder = host.home / ".program-patroni.partial", _copy(host)
        shutil.rmtree(partial, ignore_errors=True)
        base, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copytree(base / "lib" / version, partial / "lib" / version, ignore=shutil.ignore_patterns(*NOT_COPIED))
        for library in (base / "lib").glob("libpython*.so*"):
            shutil.copy2(library, partial / "lib" / library.name)
        (partial / "bin").mkdir()
        shutil.copy2(Path(sys.executable).resolve(), partial / "bin" / "python3")
        copy_packages(partial / "packages")
        open_to_all(partial)
        partial.rename(folder)
        found = _copied(folder)
        if not _runs(host, *found):
            raise ClusterError(f"{host.account and host.account.pw_name} cannot run Patroni with {found[0]}")
    return found


def copy_packages(folder: Path) -> None:
    """Copy Patroni and what it imports, as they are installed, into a new folder."""
    for name in PACKAGES:
        for file in _distribution(name).files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ClusterError(f"the Python package {name} is not installed: run `make install`") from None


def _copy(host: Host) -> Path:
    """Where the copy is: another folder for each Python and each version of a package."""
    what = [sys.version, *(f"{name} {_distribution(name).version}" for name in PACKAGES)]
    return host.home / f"program-patroni-{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}"


def _copied(folder: Path) -> tuple[str, dict[str, str]]:
    return str(folder / "bin" / "python3"), {
        "PYTHONHOME": str(folder),
        "PYTHONPATH": str(folder / "packages"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(folder / "lib"),
    }


def _runs(host: Host, program: str, more: dict[str, str]) -> bool:
    try:
        done = subprocess.run(  # noqa: S603
            [program, "-c", TRY], check=False, capture_output=True, timeout=120, cwd="/", env=environment() | more,
            **host.identity(),
        )  # fmt: skip
    except PermissionError:
        return False
    return done.returncode == 0
