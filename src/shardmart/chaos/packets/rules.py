"""The iptables rules that send a fault's packets to its queue, and nothing else.

Three things end a fault, each without the others:
the injector removes its rules; when it dies, `--queue-bypass` lets packets through; and every rule carries the
deadline itself (`-m time --datestop`), so that even a stopped injector cannot hold traffic for ever.
iptables rather than nft: kernels without CONFIG_NFT_QUEUE still have the xtables NFQUEUE target (see
docs/decisions/042).
"""

from __future__ import annotations

import datetime
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

CHAIN = "SHARDMART_CHAOS"
MARK_FAMILY = 0x5A000000
"""The first byte of every mark this package sets; the other three tell one fault from the next."""
TABLE = "mangle"
IPV4, IPV6 = "iptables", "ip6tables"
"""The programs, one for each family of addresses."""
MULTIPORT_LIMIT = 15


class RulesError(Exception):
    """iptables is missing or refused; the message says what to do."""


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    path = _found(program)
    if path is None:
        raise RulesError(f"network faults need the program {program} (Debian and Ubuntu: apt-get install iptables)")
    done = subprocess.run([path, "-w", "5", "-t", TABLE, *arguments], capture_output=True, text=True)  # noqa: S603
    if check and done.returncode:
        first = (done.stderr.strip() or "no message").splitlines()[0]
        raise RulesError(f"{program} {' '.join(arguments)}: {first}")
    return done


def programs_of(interface: str) -> tuple[str, ...]:
    """iptables, and ip6tables where an interface of this network namespace has more than a link-local IPv6 address."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # a kernel without IPv6
        lines = []
    # address, index, length of the prefix, scope (00 is global), flags, name
    fields = [line.split() for line in lines]
    return (IPV4, IPV6) if any(f[5] == interface and f[3] == "00" for f in fields) else (IPV4,)


def kernel_deadline(duration_seconds: float) -> str:
    """The `--datestop` of a fault that starts now: two seconds after the injector's own deadline, in UTC."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=duration_seconds + 2)
    return end.strftime("%Y-%m-%dT%H:%M:%S")


def new_mark() -> int:
    """The mark of flows that are none of a fault's business.

    Conntrack remembers it as long as the connection lives, so a fault must not believe the marks of an earlier one.
    """
    return MARK_FAMILY | secrets.randbelow(0xFFFFFF) + 1


def install(
    queue: int,
    mark: int,
    ports: list[int],
    hooks: list[tuple[str, str | None]],
    duration_seconds: float,
    programs: Sequence[str] = (IPV4,),
) -> None:
    """Send TCP packets from or to `ports` (every TCP packet when empty) through `queue`.

    `hooks` are pairs of a built-in chain and an interface (None = every interface).  Flows the injector gave `mark`
    are marked so in conntrack and skip the queue from then on.  Bind the queue before: the kernel
    gives it to one process only, which makes network faults of one machine exclusive.  Raises RulesError.
    """
    # The caller owns the queue, so whoever made rules that still stand is dead: they only let packets through.
    remove()
    for program in programs:
        _install(program, queue, mark, ports, hooks, duration_seconds)


def _install(
    program: str, queue: int, mark: int, ports: list[int], hooks: list[tuple[str, str | None]], duration_seconds: float
) -> None:
    _run(program, "-N", CHAIN)
    passed = f"{mark:#x}"
    # A SYN opens a new connection: its ports may have belonged to another process a moment ago, so ask again.
    _run(program, "-A", CHAIN, "-p", "tcp", "!", "--syn", "-m", "connmark", "--mark", passed, "-j", "RETURN")
    _run(program, "-A", CHAIN, "-m", "mark", "--mark", passed, "-j", "CONNMARK", "--save-mark")
    _run(program, "-A", CHAIN, "-m", "mark", "--mark", passed, "-j", "RETURN")
    until = ("-m", "time", "--datestop", kernel_deadline(duration_seconds))
    groups = [ports[i : i + MULTIPORT_LIMIT] for i in range(0, len(ports), MULTIPORT_LIMIT)]
    matches: list[tuple[str, ...]] = [("-m", "multiport", "--ports", ",".join(map(str, g))) for g in groups] or [()]
    for match in matches:
        _run(
            *(program, "-A", CHAIN, "-p", "tcp", *match, *until),
            *("-j", "NFQUEUE", "--queue-num", str(queue), "--queue-bypass"),
        )
    for hook, interface in hooks:
        where = (("-i" if hook in {"INPUT", "PREROUTING"} else "-o"), interface) if interface else ()
        _run(program, "-I", hook, *where, "-j", CHAIN)


def already_installed() -> bool:
    """Whether the chain of a network fault stands in this network namespace.  Raises RulesError without iptables."""
    return any(_stands(program) for program in (IPV4, IPV6))


def _stands(program: str) -> bool:
    if program == IPV6 and _found(program) is None:
        return False
    return _run(program, "-S", CHAIN, check=False).returncode == 0


def remove() -> bool:
    """Take every rule of this package out; True if there was one.  Safe to call at any time."""
    standing = [program for program in (IPV4, IPV6) if _stands(program)]
    for program in standing:
        for line in _run(program, "-S").stdout.splitlines():
            words = line.split()
            if words[0] == "-A" and words[-2:] == ["-j", CHAIN]:
                _run(program, "-D", *words[1:], check=False)
        _run(program, "-F", CHAIN, check=False)
        _run(program, "-X", CHAIN, check=False)
    return bool(standing)
