"""Run the project's playbooks on a real kind cluster, and look at the pods, sets and data they made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.plays import Played

ROOT = Path(__file__).parents[2]
TRIES_SECONDS = 0.5
POLICIES = Path(os.environ.get("KUBE_LAB") or ROOT.parent / "shared" / "kube-lab") / "policies-up"
"""What makes network policies count on a kind cluster, whose own network ignores them."""
SEED = ("--seed=1", "--users=10", "--orders-per-user=3", "--products=20")

SETS = """
import json
from pathlib import Path
from shardmart.cluster.protocol.connection import Credentials, Tls, connect
from pymongo.errors import PyMongoError
from shardmart.platforms.state import State
state = State(Path("/state"))
keyfile = Credentials(keyfile=state.keyfile, tls=Tls.trusting(state.authority))
found = {}
for declared in state.description().replica_sets:
    about = found[declared.name] = {"id": None, "states": {}, "hashes": {}}
    for member in declared.members:
        with connect(member.address, keyfile, timeout_seconds=3) as client:
            try:
                status = client.admin.command("replSetGetStatus")
                about["states"][member.name] = next(m["stateStr"] for m in status["members"] if m.get("self"))
                settings = client.admin.command("replSetGetConfig")["config"]["settings"]
                about["id"] = str(settings["replicaSetId"])
                about["hashes"][member.name] = client.ecommerce.command("dbHash")["md5"]
            except PyMongoError as error:
                about["states"].setdefault(member.name, str(error)[:200])
print(json.dumps(found))
"""


class KindSite:
    """A state folder, a topology and a kind cluster of that name; `site.yml` makes the rest."""

    inventory = "inventories/kind-airgapped"

    def __init__(self, folder: Path, name: str, **changes: Any) -> None:
        self.name = name
        self.state = folder / "state"
        self.kubeconfig = self.state / "kubeconfig"
        self.topology = folder / "topology.yml"
        self.document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
        self.write(name=name, **changes)

    def write(self, **changes: Any) -> None:
        """Write the topology file, with top-level keys replaced."""
        self.document |= changes
        self.topology.write_text(yaml.safe_dump(self.document, sort_keys=False))

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment of every command: this site's state folder and kubeconfig."""
        ours = {"SHARDMART_STATE": str(self.state), "KUBECONFIG": str(self.kubeconfig), "ANSIBLE_NOCOLOR": "1"}
        return os.environ | ours | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(self, *command: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        """Output of a command; AssertionError with everything it said when its exit code is not accepted."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode in accept, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def play(self, playbook: str, *arguments: str) -> Played:
        """Run a playbook to its end."""
        command = ["ansible-playbook", "-i", self.inventory, playbook, "-e", f"topology={self.topology}"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Played(done.returncode, done.stdout)

    def must_play(self, playbook: str, *arguments: str) -> Played:
        """Run a playbook, which has to succeed; where it does not, pods, Jobs and events are shown."""
        played = self.play(playbook, *arguments)
        shown = self.kubectl("get", "pods,jobs,events", accept=(0, 1)) if played.code else ""
        assert played.code == 0, f"{played.output}\n{shown}"
        return played

    def must_converge(self, playbook: str, *arguments: str) -> None:
        """Run a playbook twice: the first run changes something, the second nothing."""
        for changes_nothing in (False, True):
            played = self.must_play(playbook, *arguments)
            assert (set(played.changed.values()) == {0}) is changes_nothing, played.output

    def role(self, name: str) -> str:
        """What Ansible says of one role, run on the controller."""
        command = ["ansible", "-i", self.inventory, "controller", "-e", f"topology={self.topology}"]
        role = ("-m", "ansible.builtin.include_role", "-a", f"name={name}")
        return self.run("env", "ANSIBLE_CALLBACK_RESULT_FORMAT=json", *command, *role)

    def images(self) -> dict[str, dict[str, str]]:
        """Build the images and load them into the kind cluster: `repository` and `tag` of each, by its short name."""
        tags = set(re.findall(r'"(shardmart/([a-z]+))": "([^"]+)"', self.role("images")))
        return {name: {"repository": repository, "tag": tag} for repository, name, tag in tags}

    def enforce_policies(self) -> None:
        """Have the kind cluster, made by its roles, and its policies enforced from the first pod on."""
        for role in ("secrets", "kind_cluster"):
            self.role(role)
        if POLICIES.exists():
            self.run(str(POLICIES), "--name", self.name, "--kubeconfig", str(self.kubeconfig))

    def kubectl(self, *arguments: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        """Output of kubectl in the release's namespace (another `--namespace` in the arguments wins)."""
        return self.run("kubectl", f"--namespace={self.name}", *arguments, text=text, accept=accept)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]
        return items

    def toolbox(self, *command: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        """Output of a command in the toolbox pod."""
        return self.kubectl("exec", "-i", f"deploy/{self.name}-toolbox", "--", *command, text=text, accept=accept)

    def sets(self) -> dict[str, Any]:
        """Every replica set: its `id` (made by initiation), and `states` and data `hashes` of its members."""
        found: dict[str, Any] = json.loads(self.toolbox("python3", "-", text=SETS))
        return found

    def identities(self) -> dict[str, str]:
        """replicaSetId of every set: a second initiation would change it."""
        return {name: about["id"] for name, about in self.sets().items()}

    def primary(self, replica_set: str) -> str | None:
        """Name of the set's primary in the topology, None when it has none."""
        states = self.sets()[replica_set]["states"]
        return next((name for name, state in states.items() if state == "PRIMARY"), None)

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = 240) -> Any:
        """What `condition` returns once that is true; AssertionError that says what was awaited.

        A command that fails meanwhile, or a field that an object does not have yet, counts as not yet.
        """
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                if last := condition():
                    return last
            except (AssertionError, json.JSONDecodeError, LookupError) as error:
                last = repr(error) if isinstance(error, LookupError) else error
            time.sleep(TRIES_SECONDS)
        raise AssertionError(f"waited {seconds:g} s for {what}; last: {last}")

    def wait_until_ready(self) -> None:
        """Until every pod that should be there is ready, and every member is PRIMARY or SECONDARY."""
        self.wait("the StatefulSets", lambda: all(ready(workload) for workload in self.get("statefulset")))
        self.wait("the toolbox", lambda: all(ready(workload) for workload in self.get("deployment")))

        def whole() -> bool:
            states = [list(about["states"].values()) for about in self.sets().values()]
            return all(found.count("PRIMARY") == 1 and set(found) <= {"PRIMARY", "SECONDARY"} for found in states)

        self.wait("every set to have one primary and else secondaries", whole)

    def assert_data_complete(self) -> None:
        """Every document of the seed is there, and the members of each set hold the same."""
        arguments = ("shardmart", "load", "--state=/state", *SEED, "--check", "--json")

        def complete() -> bool:
            found = json.loads(self.toolbox(*arguments))["collections"]
            return {(c["missing"], c["different"]) for c in found.values()} == {(0, 0)}

        assert self.wait("the seed to be complete", complete, seconds=60)

        def same() -> bool:
            return all(len(set(about["hashes"].values())) == 1 for about in self.sets().values())

        assert self.wait("the members of each set to hold the same", same, seconds=60)

    def destroy(self) -> None:
        """Remove the kind cluster if it is there still."""
        self.run("kind", "delete", "cluster", "--name", self.name)


def ready(workload: Mapping[str, Any]) -> bool:
    """Whether all pods of a StatefulSet or Deployment are up to date and ready."""
    status, wanted = workload["status"], workload["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == workload["metadata"]["generation"]
        and status.get("readyReplicas", 0) == wanted
        and status.get("updatedReplicas", 0) == wanted
    )


@dataclass
class Made:
    """A site, what its first `site.yml` said, how long that took, and the identity of each set after it."""

    site: KindSite
    played: Played
    seconds: float
    identities: dict[str, str]
