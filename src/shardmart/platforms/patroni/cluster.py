"""The store's PostgreSQL under Patroni, brought to what is declared: made, started, waited for, stopped, removed.

Re-entrant: what runs as it should is left, what died is started, and Patroni makes of it what it has to be.  Who leads
is Patroni's to say; nothing here opens a database.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cluster.errors import ClusterError
from ...cluster.host import certificates, processes
from ...cluster.host.files import write_whole
from ...cluster.host.processes import Started, send_signal
from ...cluster.observe import patroni as observe
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import PATRONI_PORTS, Instance, Shop
from .. import postgres
from ..postgres import HOST, Host
from ..postgres import programs as postgres_programs
from ..postgres.servers import AUTHORITY, CERTIFICATE, certificate, is_certified, tidy
from . import etcd, files, programs, settings
from .files import Place

PASSWORDS: dict[str, str] = {
    settings.SUPERUSER: "shop-postgres",
    settings.REPLICATION: "shop-postgres-replication",
    settings.REWIND: "shop-postgres-rewind",
    settings.REST: "shop-patroni",
    etcd.PATRONI: "shop-etcd-patroni",
    etcd.ROOT: "shop-etcd",
}
"""User → the file of its password in `secrets`, without its ending."""
PEERS, CERTIFICATE_DAYS = "shop-etcd-peers", 3650
REST_SECONDS = 30


@dataclass(frozen=True)
class Store:
    """The servers of one state folder."""

    nodes: tuple[Instance, ...]
    etcd: tuple[Instance, ...]
    state: Path
    tls: bool = False
    """Whether PostgreSQL speaks TLS and nothing else, with the certificate of the cluster in the same state folder."""

    @classmethod
    def of(cls, shop: Shop, state: Path) -> Store:
        """The store of a shop that is under Patroni."""
        return cls(shop.postgres_nodes, shop.etcd, state, shop.backends.tls)

    @property
    def host(self) -> Host:
        """Where and as whom they run."""
        return Host(self.state)

    def place(self, one: Instance) -> Place:
        """The folder of a process."""
        return Place(self.host, one.name)

    def server(self, node: Instance) -> postgres.Server:
        """The PostgreSQL of a node, as a process of this machine."""
        return _server(self.host, node.name, node.port)

    def password(self, user: str) -> str:
        """ClusterError where its file is not there."""
        file = self.state / "secrets" / f"{PASSWORDS[user]}.password"
        try:
            return file.read_text().strip()
        except OSError as error:
            raise ClusterError(f"{file}: {error.strerror}: run `make shop` with the shop's topology") from None

    def configurations(self) -> dict[str, dict[str, Any]]:
        """What each process is told, by name."""
        host, passwords = self.host, {user: self.password(user) for user in PASSWORDS}
        found = {one.name: etcd.settings(self.etcd, one, self.place(one).data, host.home / PEERS) for one in self.etcd}
        bin_dir = host.program("postgres", tls=self.tls).parent
        tools = postgres_programs.tools(host.home) if self.tls else None
        for node in self.nodes:
            folder = self.place(node).folder
            found[node.name] = settings.settings(node, self.etcd, folder, bin_dir, passwords, tools)
        return found

    def certificates(self, node: Instance) -> dict[Path, str]:
        """The files of a node that have another certificate than the cluster, and what is to be in them."""
        wanted = certificate(self.host, self.place(node).folder) if self.tls else {}
        return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def converge(store: Store, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Have etcd, Patroni and PostgreSQL run as declared, one leading and the others following; what was done.

    ClusterError, or DeadlineError that says who does not follow.
    """
    host, all_ = store.host, (*store.etcd, *store.nodes)
    live = processes.live([store.place(one).process() for one in all_])
    if not check_mode:
        host.prepare()
        if store.tls:
            postgres_programs.have(host.home, host.binaries, "backends: {tls: false}")
            postgres_programs.have_tools(host.home, host.program("pg_basebackup").parents[1])
        programs.have_etcd(host)
        programs.have_python(host)
        _have_peers_certificate(host)
    made = {one.name for one in all_ if store.place(one).configuration.exists()}
    if check_mode and len(made) < len(all_):
        return [f"make {one.name}" for one in all_ if one.name not in made] + _idle(all_, live)
    told = store.configurations()
    changed = [one.name for one in all_ if not store.place(one).says(told[one.name])]
    changes = [f"{'configure' if name in made else 'make'} {name}" for name in changed] + _idle(all_, live)
    renewed = [one for one in store.nodes if store.certificates(one)] if is_certified(host) or not check_mode else []
    changes += [f"renew the certificate of {one.name}" for one in renewed if one.name in made]
    if check_mode:
        return changes
    for one in store.etcd:
        if one.name in changed and one.name in live:
            processes.stop([store.place(one).process()], wait_seconds=deadline.remaining)
            store.place(one).configure(told[one.name])
            _start(store, [one.name])
            etcd.wait_until_ready([one], store.password(etcd.ROOT), deadline)
    for one in renewed:
        _certify(store, one)
    for one in store.nodes if not store.tls else ():  # no key stays beside what speaks no TLS
        for name in (CERTIFICATE, AUTHORITY):
            (store.place(one).folder / name).unlink(missing_ok=True)
    for one in all_:
        if one.name in changed:
            store.place(one).configure(told[one.name])
            if one in store.nodes and one.name in live:
                send_signal(live[one.name], signal.SIGHUP)
    _, done = _bring_up(store, [one.name for one in all_], deadline)
    return changes + done


def start(store: Store, names: Iterable[str], deadline: Deadline) -> list[str]:
    """Start those of these that do not run, as they were configured last, and wait until one node leads and all others
    follow; what was done."""
    begun, done = _bring_up(store, names, deadline)
    return [f"start {one.process.name}" for one in begun] + done


def _bring_up(store: Store, names: Iterable[str], deadline: Deadline) -> tuple[list[Started], list[str]]:
    """What was started, and what else was done."""
    wanted = set(names)
    begun = _start(store, [one.name for one in store.etcd if one.name in wanted])
    etcd.wait_until_ready(store.etcd, store.password(etcd.ROOT), deadline)
    done = etcd.secure(store.etcd[0], store.password(etcd.ROOT), store.password(etcd.PATRONI))
    begun += _start(store, [node.name for node in store.nodes if node.name in wanted])
    _wait(store, begun, deadline)
    return begun, done + _have_dynamic(store)


def stop(state: Path, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Stop what runs of it, whichever topology started it: who follows, who leads, etcd; what was done."""
    host = Host(state)
    places = files.there(host)
    live = processes.live([place.process() for place in places])
    nodes = [_node(place) for place in places if place.name.startswith(files.NODE)]
    running = [place.name for place in places if place.name in live or _postgres_runs(host, place.name)]
    if check_mode or not running:
        return [f"stop {name}" for name in running]
    leading = observe.leader([node for node in nodes if node.name in live])
    for node in sorted(nodes, key=lambda one: leading is not None and one.name == leading.name):
        processes.stop([Place(host, node.name).process()], wait_seconds=deadline.remaining)
        # Of a Patroni that was killed the server may run on.
        postgres.stop([_server(host, node.name, node.port)], deadline)
    members = [place.process() for place in places if place.name.startswith(files.ETCD)]
    processes.stop(members, wait_seconds=deadline.remaining)
    return [f"stop {name}" for name in running]


def remove(state: Path, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Stop it and remove its data, configuration and logs.  ClusterError when somebody else made the folder of them."""
    host = Host(state)
    host.refuse_foreign()
    changes = stop(state, deadline, check_mode=check_mode)
    for folder in (*(place.folder for place in files.there(host)), host.home / PEERS):
        if folder.exists():
            changes.append(f"remove {folder}")
            if not check_mode:
                shutil.rmtree(folder)
    if not check_mode:
        tidy(host)
    return changes


def _idle(all_: Iterable[Instance], live: Mapping[str, object]) -> list[str]:
    return [f"start {one.name}" for one in all_ if one.name not in live]


def _start(store: Store, names: Sequence[str]) -> list[Started]:
    """Start those that do not run.  ClusterError where the programs are not there."""
    if not names:
        return []
    host = store.host
    etcd_program, interpreter = programs.etcd(host), programs.python(host)
    if etcd_program is None or interpreter is None:
        raise ClusterError(
            "etcd and Patroni are not there: run `make shop` with the topology that has `postgres_nodes`"
        )
    live = processes.live([Place(host, name).process() for name in names])
    begun = []
    for one in (*store.etcd, *store.nodes):
        if one.name in names and one.name not in live:
            if one in store.etcd:
                begun.append(store.place(one).start(str(etcd_program), {}, one, one.port))
            else:
                begun.append(store.place(one).start(*interpreter, one, one.port + PATRONI_PORTS))
    return begun


def _wait(store: Store, begun: Sequence[Started], deadline: Deadline) -> None:
    """Until one node leads and all others follow, and may take over."""
    while True:
        processes.refuse_ended(begun)
        found = observe.members(store.nodes)
        if observe.is_whole(found):
            return
        left = [one for one in found if not one.leads and not one.follows]
        said = ", ".join(f"{one.node.name} ({one.health.reason or one.health.state})" for one in left)
        deadline.pause(f"{said or 'one node'} to {'follow' if said else 'lead'}; see server.log beside its data")


def _have_dynamic(store: Store) -> list[str]:
    """Have in etcd what Patroni keeps there for all nodes, which is read from a node's file only the first time."""
    node = observe.leader(store.nodes)
    if node is None:
        raise ClusterError("no node of the store leads: `shardmart status` says what each does")
    _, there = observe.ask(node, "/config")
    if _covers(there, settings.DYNAMIC):
        return []
    login = base64.b64encode(f"{settings.REST}:{store.password(settings.REST)}".encode()).decode()
    connection = http.client.HTTPConnection(node.host, node.port + PATRONI_PORTS, timeout=REST_SECONDS)
    try:
        connection.request("PATCH", "/config", json.dumps(settings.DYNAMIC), {"Authorization": f"Basic {login}"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ClusterError(f"Patroni of {node.name} does not take its settings: {answer.status}")
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(f"Patroni of {node.name} does not take its settings: {error}") from None
    finally:
        connection.close()
    return ["change the settings of all nodes"]


def _covers(there: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_covers(there.get(key), value) for key, value in wanted.items())
    return bool(there == wanted)


def _certify(store: Store, node: Instance) -> None:
    """Have a node's own copy of the certificate, which its PostgreSQL reads if it runs."""
    folder = store.place(node).folder
    folder.mkdir(exist_ok=True, mode=0o700)
    store.host.own(folder)
    for path, text in store.certificates(node).items():
        write_whole(path, text)
        store.host.own(path)
    if live := store.server(node).running():
        send_signal(live, signal.SIGHUP)


def _have_peers_certificate(host: Host) -> None:
    """What etcd's members show one another; the authority's key is thrown away with it made."""
    folder = host.home / PEERS
    if folder.exists():
        return
    authority = certificates.make_authority("shop-etcd", CERTIFICATE_DAYS)
    pair = certificates.make_server_certificate(authority, [HOST], CERTIFICATE_DAYS)
    partial = folder.with_name(f".{PEERS}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    host.own(partial)
    for name, content in (("ca.pem", authority.certificate), ("peer.pem", pair.combined)):
        write_whole(partial / name, content.decode())
        host.own(partial / name)
    partial.rename(folder)


def _server(host: Host, name: str, port: int) -> postgres.Server:
    password = host.state / "secrets" / f"{PASSWORDS[settings.SUPERUSER]}.password"
    return postgres.Server(name, port, settings.SUPERUSER, password, host, peers=False)


def _node(place: Place) -> Instance:
    """The node as its own file says where it is."""
    address, _, port = str(place.written()["postgresql"]["listen"]).rpartition(":")
    return Instance(place.name, address, int(port))


def _postgres_runs(host: Host, name: str) -> bool:
    return name.startswith(files.NODE) and _server(host, name, 0).running() is not None
