"""`shardmart render`: what Helm is given, made from what is declared; nothing is installed and no cluster is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from shardmart.cluster.host import generated
from shardmart.command import run_app
from shardmart.declare import access, data_model
from shardmart.declare.chart import chart_values
from shardmart.declare.replica_sets import Member
from shardmart.declare.ring_chart import ring_values
from shardmart.declare.shop_chart import shop_values
from shardmart.declare.topology import TopologyError, load
from shardmart.errors import UNREACHABLE, BadUseError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
MISSING = "nothing"

Check = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Print nothing but what FILE has otherwise; exit 1 when it has.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of YAML, or instead of lines.")]


@dataclass(frozen=True)
class Difference:
    """A key for which a file has something else than what is declared."""

    key: str
    expected: Any
    found: Any

    def line(self, file: Path) -> str:
        """For a person, in one line."""
        expected, found = (one if one == MISSING else json.dumps(one) for one in (self.expected, self.found))
        return f"{self.key}: expected {expected}, {file} has {found}"


@app.command()
def values(
    topology: Annotated[Path, typer.Argument(help="The topology file.", metavar="TOPOLOGY")],
    check: Check = None,
    as_json: AsJson = False,
) -> None:
    """The chart's values that the topology decides (helm/sharded-mongodb).

    For `helm install`, or a values file in git. --check compares a values file: keys that the topology does not decide
    may hold anything, and `members: 3` is three members of the default kind.
    """
    try:
        expected = chart_values(load(topology))
    except TopologyError as error:
        raise BadUseError(str(error) if str(topology) in str(error) else f"{topology}: {error}") from None
    if check:
        _report(check, list(differences(_counted(expected), _counted(_document(check)))), as_json=as_json)
    _show(expected, as_json=as_json)


@app.command()
def shop(
    topology: Annotated[Path, typer.Argument(help="The topology file.", metavar="TOPOLOGY")],
    check: Check = None,
    as_json: AsJson = False,
    cluster: Annotated[str | None, typer.Option(help="The cluster's release; default: the topology's name.")] = None,
) -> None:
    """The values of helm/shop that the topology decides, for a release in the namespace of the cluster's."""
    try:
        declared = load(topology)
        expected = shop_values(declared, cluster or declared.name)
    except TopologyError as error:
        raise BadUseError(str(error) if str(topology) in str(error) else f"{topology}: {error}") from None
    if check:
        _report(check, list(differences(expected, _document(check))), as_json=as_json)
    _show(expected, as_json=as_json)


@app.command()
def ring(
    topology: Annotated[Path, typer.Argument(help="The topology file.", metavar="TOPOLOGY")],
    check: Check = None,
    as_json: AsJson = False,
    name: Annotated[str | None, typer.Option(help="Which of its rings; default: the only one.")] = None,
) -> None:
    """The values of helm/ring that the topology decides, for one ring."""
    try:
        declared = load(topology)
        rings = declared.rings
    except TopologyError as error:
        raise BadUseError(str(error)) from None
    chosen = [one for one in rings if name in (None, one.name)]
    if len(chosen) != 1:
        there = ", ".join(one.name for one in rings) or "none"
        raise BadUseError(f"{topology}: rings: which one? There are: {there}; say --name")
    expected = ring_values(chosen[0], tls=declared.tls.mode != "disabled")
    if check:
        _report(check, list(differences(expected, _document(check))), as_json=as_json)
    _show(expected, as_json=as_json)


@app.command()
def secret(
    topology: Annotated[Path, typer.Argument(help="The topology file.", metavar="TOPOLOGY")],
    namespace: Annotated[str, typer.Option(help="Its namespace.")],
    name: Annotated[str, typer.Option(help="Its name: the charts' `existingSecret`.")] = "shardmart-auth",
    folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Take what is there from these files, as from STATE/secrets."),
    ] = None,
) -> None:
    """A Secret with a new keyfile and new passwords, every one that the topology's cluster and shop need.

    It is printed, for `sops encrypt` or a vault to read: 2 on a terminal. Each call makes other secrets, and a running
    cluster takes none but its own.
    """
    if sys.stdout.isatty():
        raise BadUseError("this prints secrets: give them to a command, as in `… | sops encrypt …`, not to a terminal")
    database = data_model.load().database
    try:
        known = access.load(database, shop=load(topology).services is not None)
    except TopologyError as error:
        raise BadUseError(str(error) if str(topology) in str(error) else f"{topology}: {error}") from None
    if folder and not folder.is_dir():
        raise BadUseError(f"{folder}: is no folder of secrets")
    content = {}
    for key in (access.KEYFILE, *known.as_variable(database)["passwords"]):
        file = folder / key if folder else None
        made = generated.keyfile if key == access.KEYFILE else generated.password
        content[key] = _read(file).strip() if file and file.exists() else made()
    metadata = {"name": name, "namespace": namespace}
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": content}
    _show(document, as_json=False)


@app.command()
def declared(check: Check = None) -> None:
    """The chart's files/declared.json: users, who holds which secret, and zones."""
    text = declared_text()
    if check:
        same = _read(check) == text
        _report(check, [] if same else list(differences(json.loads(text), _document(check))), as_json=False)
    print(text, end="")


def declared_text() -> str:
    """The content of the chart's files/declared.json; `shop` is what comes besides where there is one."""
    model = data_model.load()
    known, with_shop = access.load(model.database), access.load(model.database, shop=True)
    content = {
        "users": [user.as_task_argument() for user in known.users],
        "held_by": {holder: list(known.held_by(holder)) for holder in known.holders},
        "shop": {
            "passwords": with_shop.as_variable(model.database)["passwords"][len(known.users) :],
            "held_by": {
                holder: list(with_shop.held_by(holder)[len(known.held_by(holder)) :]) for holder in known.holders
            },
        },
        "zones": list(model.zones),
    }
    return json.dumps(content, indent=2) + "\n"


def differences(expected: Any, found: Any, key: str = "") -> Iterator[Difference]:
    """Every key of `expected` for which `found` has something else; keys that only `found` has do not count."""
    if isinstance(expected, Mapping) and (isinstance(found, Mapping) or found == MISSING):
        for name, value in expected.items():
            other = found.get(name, MISSING) if isinstance(found, Mapping) else MISSING
            yield from differences(value, other, f"{key}.{name}" if key else str(name))
    elif _are_lists_of_mappings(expected, found):
        for i in range(max(len(expected), len(found))):
            one = expected[i] if i < len(expected) else MISSING
            other = found[i] if i < len(found) else MISSING
            yield from differences(one, other, f"{key}[{i}]")
    elif expected != found or isinstance(expected, bool) != isinstance(found, bool):
        yield Difference(key, expected, found)


def _are_lists_of_mappings(*both: Any) -> bool:
    return all(isinstance(one, list) and all(isinstance(item, Mapping) for item in one) for one in both)


def _counted(document: Any) -> Any:
    """The same values with every set's `members` spelled out: a count, and keys a member leaves to their defaults."""
    if isinstance(document, list):
        return [_counted(item) for item in document]
    if not isinstance(document, Mapping):
        return document
    spelled = {key: _counted(value) for key, value in document.items()}
    members = spelled.get("members")
    if isinstance(members, int) and not isinstance(members, bool):
        members = [{}] * members
    if isinstance(members, list) and all(isinstance(member, Mapping) for member in members):
        defaults = Member().model_dump(exclude={"cache_mb"})
        spelled["members"] = [defaults | member for member in members]
    return spelled


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise BadUseError(f"{file}: cannot be read: {reason}") from None


def _document(file: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise BadUseError(f"{file}: is not YAML: {' '.join(str(error).split())}") from None
    if document is not None and not isinstance(document, Mapping):
        raise BadUseError(f"{file}: expected a mapping of values")
    return document or {}


def _report(file: Path, found: list[Difference], *, as_json: bool) -> None:
    """Say what differs and end the command with 0 or 1."""
    if as_json:
        print(json.dumps({"equal": not found, "differences": [asdict(difference) for difference in found]}, indent=2))
    else:
        for difference in found:
            print(difference.line(file))
    raise typer.Exit(1 if found else 0)


class _Indented(yaml.SafeDumper):
    """Lists stand further in than their key, as yamllint has it, and are not shortened to references."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _show(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print(yaml.dump(document, Dumper=_Indented, sort_keys=False), end="")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run_app(app, "render", arguments, os_error=UNREACHABLE)
