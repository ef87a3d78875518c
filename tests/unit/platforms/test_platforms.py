"""The platform of a state folder, and how each reaches a server; nothing here runs one."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from shardmart import platforms, status
from shardmart.cluster.description import Cluster, DescriptionError
from shardmart.declare import chart, release, topology
from shardmart.platforms.embedded import EmbeddedPlatform
from shardmart.platforms.kubernetes import KubernetesPlatform
from shardmart.platforms.platform import Platform, PlatformError, last_line
from shardmart.platforms.state import State

ROOT = Path(__file__).parents[3]
DECLARED = topology.load(ROOT / "inventories" / "topologies" / "tls.yml")
PODS = release.describe(chart.document(chart.chart_values(DECLARED), release.Release("shop", "shopping", "shop")))

KUBECTL = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
env > "$0.environment"
"""


def state_of(folder: Path, cluster: Cluster) -> State:
    (folder / "cluster.json").write_text(cluster.dumps())
    return State(folder)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `kubectl`, first on PATH, that writes down how it was called."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return program


def called(kubectl: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of the last call."""
    environment = Path(f"{kubectl}.environment").read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in environment if "=" in line)
    return Path(f"{kubectl}.arguments").read_text().splitlines(), pairs


def test_state_folder_says_which_platform(tmp_path: Path) -> None:
    embedded: Platform = platforms.of(state_of(tmp_path, DECLARED.resolve()))
    assert (embedded.name, embedded.direct) == ("embedded", True)
    assert isinstance(embedded, EmbeddedPlatform)
    pods: Platform = platforms.of(state_of(tmp_path, PODS))
    assert (pods.name, pods.direct) == ("kubernetes", False)
    assert isinstance(pods, KubernetesPlatform)
    with pytest.raises(DescriptionError, match="no platform 'mainframe'; there are embedded, kubernetes"):
        platforms.of(state_of(tmp_path, replace(PODS, platform="mainframe")))


def test_embedded_server_is_reached_with_the_secrets_of_the_state_folder(tmp_path: Path) -> None:
    platform = platforms.of(state_of(tmp_path, DECLARED.resolve()))
    node = platform.cluster.node("shard1-1")
    way = platform.reach(node, "monitor")
    assert (way.address, way.direct) == (platform.address(node), True) == ("127.0.0.1:27201", True)
    assert (way.credentials.username, way.credentials.password_file) == (
        "monitor",
        tmp_path / "secrets" / "monitor.password",
    )
    assert way.credentials.tls
    assert way.credentials.tls.ca_file == str(tmp_path / "tls" / "ca.pem")
    assert platform.reach(node).credentials.keyfile == tmp_path / "secrets" / "keyfile"


def test_embedded_commands_run_here_and_are_awaited_no_longer_than_told(tmp_path: Path) -> None:
    platform = platforms.of(state_of(tmp_path, DECLARED.resolve()))
    done = platform.run([platform.python, "-c", "import shardmart; print('here')"], timeout_s=60)
    assert (done.returncode, done.stdout) == (0, b"here\n")
    with pytest.raises(PlatformError, match=r"waited 0\.1 s for sleep 60"):
        platform.run(["sleep", "60"], timeout_s=0.1)
    with platform.spawn(["cat"]) as process:
        output, _ = process.communicate(b"piped")
    assert output == b"piped"


def test_server_that_was_never_started_here_cannot_be_started_again(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"no record of how shard1-1 was started in .*: run `make up`"):
        platforms.of(state_of(tmp_path, DECLARED.resolve())).start(["shard1-1"])


def test_pod_is_reached_through_the_toolbox_with_the_secrets_that_are_there(tmp_path: Path) -> None:
    platform = platforms.of(state_of(tmp_path, PODS))
    way = platform.reach(platform.cluster.node("mongos1"), "admin")
    assert way.address == "shop-mongos-1.shop-mongos.shopping.svc.cluster.local:27017"
    assert way.credentials.password_file == Path("/state/secrets/admin.password")
    with pytest.raises(PlatformError, match="cannot be connected to from here"), way.connect():
        pass


def test_command_runs_in_the_toolbox_by_the_state_folders_kubeconfig(tmp_path: Path, kubectl: Path) -> None:
    platform = platforms.of(state_of(tmp_path, PODS))
    (tmp_path / "kubeconfig").touch()
    assert platform.run(["shardmart", "status"], timeout_s=60).returncode == 0
    assert called(kubectl)[0] == [
        f"--kubeconfig={tmp_path / 'kubeconfig'}",
        "--namespace=shopping",
        *("exec", "--stdin", "--quiet", "--container=toolbox", "deploy/shop-toolbox", "--", "shardmart", "status"),
    ]


def test_no_variable_leads_to_another_kubernetes(
    tmp_path: Path, kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG", "K8S_AUTH_CONTEXT", "K8S_AUTH_HOST", "HELM_KUBECONTEXT"):
        monkeypatch.setenv(variable, "another")
    given = tmp_path / "given"
    given.touch()
    platform = platforms.of(state_of(tmp_path, PODS.reached_by(str(given), "staging")))
    platform.run(["true"], timeout_s=60)
    arguments, environment = called(kubectl)
    assert arguments[:2] == [f"--kubeconfig={given}", "--context=staging"]
    assert "another" not in environment.values()
    # What libraries read that take no argument names the given one.
    assert environment["KUBECONFIG"] == str(given)
    assert environment["KUBERNETES_CONTEXT"] == "staging"


def test_missing_kubeconfig_is_said_and_the_users_own_not_taken(tmp_path: Path, kubectl: Path) -> None:
    platform = platforms.of(state_of(tmp_path, PODS))
    with pytest.raises(PlatformError, match=f"there is no kubeconfig {tmp_path / 'kubeconfig'}"):
        platform.run(["true"], timeout_s=60)
    assert not Path(f"{kubectl}.arguments").exists()


def test_missing_kubectl_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PlatformError, match="kubectl is not on PATH"):
        platforms.of(state_of(tmp_path, PODS)).run(["true"], timeout_s=60)


def test_in_a_pod_servers_are_reached_directly_and_commands_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    document = chart.document(chart.chart_values(DECLARED), release.Release("shop", "shopping", "shop"))
    (tmp_path / "release.json").write_text(json.dumps(document))
    platform = platforms.of(State(tmp_path))
    assert platform.direct
    way = platform.reach(platform.cluster.node("mongos1"))
    assert (way.direct, way.credentials.keyfile) == (True, tmp_path / "secrets" / "keyfile")
    assert platform.run(["echo", "here"], timeout_s=60).stdout == b"here\n"


def test_part_of_a_set_of_pods_is_not_stopped(tmp_path: Path, kubectl: Path) -> None:
    platform = platforms.of(state_of(tmp_path, PODS))
    with pytest.raises(PlatformError, match="shard1ReplSet stops as a whole on Kubernetes: name shard1-2 too"):
        platform.stop(["shard1-1"])
    assert not Path(f"{kubectl}.arguments").exists()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"a\nthe reason\ncommand terminated with exit code 3\n\n", "the reason"),
        (b"command terminated with exit code 137\n", "command terminated with exit code 137"),
        (b"", ""),
    ],
)
def test_kubectls_own_last_line_hides_no_reason(said: bytes, line: str) -> None:
    assert last_line(said) == line


def test_kubectl_that_fails_is_one_line(tmp_path: Path, kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\necho 'error: statefulset not found' >&2\nexit 1\n")
    (tmp_path / "kubeconfig").touch()
    platform = platforms.of(state_of(tmp_path, PODS))
    with pytest.raises(PlatformError, match=r"^kubectl get pods shop-mongos-1: error: statefulset not found$"):
        platform.stop(["mongos1"])


FACTS = {"name": "shop", "sets": [], "routers": [], "sharding": None, "problems": ["the balancer is off"]}


def test_status_of_pods_is_asked_in_the_toolbox(
    tmp_path: Path, kubectl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kubeconfig").touch()
    state_of(tmp_path, PODS)
    kubectl.write_text(f"{KUBECTL}\necho '{json.dumps(FACTS)}'\nexit 1\n")
    assert status.main([f"--state={tmp_path}", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == FACTS
    assert called(kubectl)[0][-4:] == ["--", "shardmart", "status", "--json"]
    kubectl.write_text("#!/bin/sh\necho 'error: pod is not there' >&2\nexit 1\n")
    assert status.main([f"--state={tmp_path}"]) == 3
    assert capsys.readouterr().err == "shardmart status: the toolbox cannot tell: error: pod is not there\n"
