"""What works on Kubernetes works on the kubeconfig and context that were given, whatever the environment says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shardmart.cluster.description import DescriptionError
from shardmart.platforms import kubernetes_commands
from tests.support.modules import run_module

ROOT = Path(__file__).parents[3]
HOSTILE = {
    "K8S_AUTH_HOST": "https://192.0.2.1",
    "K8S_AUTH_CONTEXT": "elsewhere",
    "K8S_AUTH_KUBECONFIG": "/elsewhere",
    "HELM_KUBECONTEXT": "elsewhere",
    "HELM_KUBEAPISERVER": "https://192.0.2.1",
    "HELM_KUBETOKEN": "elsewhere",
    "KUBECONFIG": "/elsewhere",
    "KUBECTL_EXTERNAL_DIFF": "elsewhere",
}
PROGRAM = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    call = {{"program": sys.argv[0].rsplit("/")[-1], "words": sys.argv[1:], "environment": dict(os.environ)}}
    print(json.dumps(call), file=log)
words = sys.argv[1:]
if "status" in words and "rollout" not in words:
    print(json.dumps({{"version": "1", "info": {{"status": "deployed"}}, "manifest": "", "config": {{}}}}))
elif "--dry-run=server" in words:
    print(json.dumps({{"manifest": ""}}))
elif "version" in words:
    print("v4.0.0")
"""


class Calls:
    """What the stand-ins for kubectl and helm were called with."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def check(self, *programs: str) -> None:
        """Every call of these named the one kubeconfig and context, and nothing in its environment another."""
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert {call["program"] for call in calls} == set(programs)
        for call in calls:
            words = " ".join(call["words"])
            assert "--kubeconfig=/given/kubeconfig" in words or "--kubeconfig /given/kubeconfig" in words, words
            assert ("--kube-context=given" if call["program"] == "helm" else "--context") in words, words
            assert "elsewhere" not in words
            assert not HOSTILE.keys() & call["environment"].keys()
            assert call["environment"]["KUBERC"] == "off", "a personal file may say what options mean"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    log = tmp_path / "calls"
    for program in ("kubectl", "helm"):
        file = tmp_path / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    return Calls(log)


GIVEN = {"kubeconfig": "/given/kubeconfig", "context": "given"}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth", "namespace": "shop"}}


def test_release_module_asks_the_given_cluster_only(calls: Calls) -> None:
    result = run_module("helm_release", name="shop", namespace="shop", chart="helm/sharded-mongodb", **GIVEN)
    assert result.get("revision") == 1, result
    calls.check("helm", "kubectl")


def test_objects_module_asks_the_given_cluster_only(calls: Calls) -> None:
    run_module("kubernetes_objects", definitions=[SECRET], only_ours="a=b", **GIVEN)
    run_module("kubernetes_objects", state="absent", resources=["secrets"], selector="a=b", namespace="shop", **GIVEN)
    calls.check("kubectl")


def test_kubectl_module_asks_the_given_cluster_only(calls: Calls) -> None:
    assert run_module("kubectl", arguments=["rollout", "status"], namespace="shop", **GIVEN)["rc"] == 0
    calls.check("kubectl")


def test_environment_keeps_what_names_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")  # and what credential plugins of a kubeconfig need
    monkeypatch.setenv("AWS_PROFILE", "shop")
    kept = kubernetes_commands.environment()
    assert kept["HTTPS_PROXY"] == "http://proxy"
    assert kept["AWS_PROFILE"] == "shop"


def ansible(program: str, *arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(program)), "-i", "inventories/kubernetes", *arguments]
    environment = os.environ | {"SHARDMART_STATE": str(state), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_connection_to_the_toolbox_asks_the_given_cluster_only(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("contexts: [{name: given}]")
    say = ("-e", f"kubernetes_kubeconfig={kubeconfig}", "-e", "kubernetes_context=given")
    done = ansible("ansible", *say, "toolbox", "-m", "ansible.builtin.raw", "-a", "true", state=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    calls.log.write_text(calls.log.read_text().replace(str(kubeconfig), "/given/kubeconfig"))
    calls.check("kubectl")


def test_cluster_that_is_not_said_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = ansible("ansible-inventory", "--list", state=tmp_path)
    assert refused.returncode
    assert "this inventory uses a Kubernetes that is there: say which" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr


@pytest.fixture(scope="module")
def inventory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("topology_inventory", ROOT / "plugins" / "inventory" / "topology.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("options", "extra", "line"),
    [
        ({}, {"kubernetes_kubeconfig": "{file}"}, "say which"),
        ({"context": "given"}, {}, "say which"),
        ({"context": "other"}, {"kubernetes_kubeconfig": "{file}"}, "has no context 'other', it has given"),
        ({"kubeconfig": "/nowhere", "context": "given"}, {}, "/nowhere: No such file or directory"),
        ({"kubeconfig": "/dev/null", "context": "given"}, {}, "is not a kubeconfig"),
        ({"kubeconfig": "/nowhere", "context": "other"}, {"kubernetes_kubeconfig": "{file}"}, "no context 'other'"),
    ],
)
def test_both_must_be_said_and_there(
    inventory: ModuleType, tmp_path: Path, options: dict[str, str], extra: dict[str, str], line: str
) -> None:
    with pytest.raises(DescriptionError, match=re.escape(line)):
        given(inventory, tmp_path, options, extra)


def test_extra_variables_take_the_place_of_the_inventory(inventory: ModuleType, tmp_path: Path) -> None:
    extra = {"kubernetes_kubeconfig": "{file}", "kubernetes_context": "given"}
    found = given(inventory, tmp_path, {"kubeconfig": "/nowhere", "context": "other"}, extra)
    assert found == (str(tmp_path / "kubeconfig"), "given", "given_cluster")


def given(inventory: ModuleType, tmp_path: Path, options: dict[str, str], extra: dict[str, str]) -> object:
    """Which cluster the plugin takes for these options and extra variables."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("contexts: [{name: given}]")
    plugin = inventory.InventoryModule()
    plugin._folder = tmp_path
    plugin._extra = {name: value.format(file=kubeconfig) for name, value in extra.items()}
    plugin.get_option = options.get
    return plugin._given(None)
