#!/usr/bin/python
"""Ansible module: a Helm release, as its chart and values say; the same with Helm 3 and Helm 4."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release
short_description: Install or upgrade a Helm release only when something differs
description:
  - Renders the chart against the cluster, compares the result with what Helm stored and, object by object, with what
    runs (C(kubectl diff)), and upgrades only when one of them differs. So C(changed) is the truth, and a drifted object
    (a scaled StatefulSet, an edited ConfigMap) is put back.
  - kubernetes.core.helm 6.2 calls Helm 4 with arguments it no longer has; this module asks which Helm it is.
  - Values go through a file descriptor, never on the command line.
  - A release that a killed run left locked (C(pending-upgrade) and its like) is freed by removing the revision that was
    never finished, and then upgraded. Helm itself would refuse for ever.
  - Whether a run was killed says its Lease beside the release, which a run of this module renews while it lives. A
    release without one, that Helm alone works on, is left to it for as long as this module would take itself.
  - One that somebody works on is waited for, as long, and then named.
  - A release of this name that is of another chart is refused.
  - Uses the kubeconfig and context given and no other, whatever KUBECONFIG or HELM_KUBE* say in the environment.
attributes:
  check_mode: {support: full, description: Shows the difference and changes nothing.}
  diff_mode: {support: full, description: The difference between what runs and what would; Secrets are masked.}
options:
  name: {description: The release., type: str, required: true}
  namespace: {description: Its namespace; it must exist., type: str, required: true}
  chart: {description: Folder of the chart., type: path}
  values: {description: Values., type: dict, default: {}}
  state: {description: Whether it is there., type: str, choices: [present, absent], default: present}
  kubeconfig: {description: The kubeconfig to use., type: path, required: true}
  context: {description: Its context; the current one when it is not given., type: str}
  helm: {description: Name or path of helm., type: str, default: helm}
  timeout_seconds: {description: How long hooks may take., type: int, default: 300}
author: Shardmart
"""

EXAMPLES = r"""
- name: Install the chart
  helm_release:
    name: shardmart
    namespace: shardmart
    chart: helm/sharded-mongodb
    values: {routers: {replicas: 2}}
    kubeconfig: .shardmart/kubeconfig
    context: kind-shardmart
"""

RETURN = r"""
revision: {description: The release's revision., type: int, returned: when present}
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.shardmart.platforms import release_holder
from ansible.module_utils.shardmart.platforms.kubernetes_commands import Commands

LOCKED = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
"""States in which Helm refuses to work on a release; a run that ends leaves none of them."""
GRACE_SECONDS = 60
"""A release on which work began less than this ago is left to whoever began it."""
POLL_SECONDS = 2


class Helm:
    """Helm and kubectl with this release's arguments."""

    def __init__(self, module):
        self.module = module
        self.commands = Commands(module.params["kubeconfig"], module.params["context"])
        self.release = module.params["name"]
        self.namespace = module.params["namespace"]

    def run(self, command, data=None, accept=(0,), unless=None):
        """Exit code and output; a code that is not accepted ends the module, unless the command said that."""
        done = self.commands.run(command, data)
        if done.returncode not in accept and not (unless and unless in done.stderr):
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            told = [line for line in said if not line.startswith("WARNING")]
            word = next(word for word in command[1:] if not word.startswith("-"))
            self.module.fail_json(msg=f"{command[0]} {word} failed: {readable(told)}")
        return done.returncode, done.stdout

    def helm(self, *arguments, **options):
        """Run Helm in the release's namespace."""
        program = self.module.params["helm"]
        return self.run(self.commands.helm(program, f"--namespace={self.namespace}", *arguments), **options)

    def kubectl(self, *arguments, **options):
        """Run kubectl in the release's namespace."""
        return self.run(self.commands.kubectl(f"--namespace={self.namespace}", *arguments), **options)

    def stored(self):
        """The release as Helm stored it: {revision, status, manifest, values}; None when there is none."""
        code, out = self.helm("status", self.release, "--output", "json", unless="release: not found")
        if code:
            return None
        found = json.loads(out)
        return {
            "revision": int(found["version"]),
            "status": found["info"]["status"],
            "since": found["info"].get("last_deployed", ""),
            "manifest": found["manifest"],
            "values": found.get("config") or {},
        }

    def refuse_foreign(self):
        """Fail for a release of another chart; Helm before 3.13 cannot say which it is of."""
        if not self.module.params["chart"]:
            return
        own = re.search(r"^name:\s*(\S+)", (Path(self.module.params["chart"]) / "Chart.yaml").read_text(), re.MULTILINE)
        done = self.commands.run(
            self.commands.helm(
                self.module.params["helm"],
                f"--namespace={self.namespace}",
                *("get", "metadata", self.release, "--output", "json"),
            )
        )
        try:
            chart = json.loads(done.stdout)["chart"]
        except (ValueError, KeyError, TypeError):
            return
        if own and chart != own[1]:
            self.module.fail_json(
                msg=f"release {self.release} in namespace {self.namespace} is of the chart {chart}, not of {own[1]}: "
                "it is not ours; give this one another name"
            )

    def work(self):
        """A context in which this run is the one that works on the release."""
        return release_holder.Held(self.place)

    @cached_property
    def place(self):
        """The release, for those who ask what is beside it."""
        return release_holder.Release(self.commands, self.namespace, self.release)

    def freed(self, stored):
        """The release as stored once nobody works on it and no unfinished work locks it; None when there is none then.

        Fails, and names who works on it, when that takes longer than this run would.
        """
        watched = release_holder.Watched(self.place)
        most = self.module.params["timeout_seconds"] + GRACE_SECONDS
        deadline = time.monotonic() + most
        while stored and stored["status"] in LOCKED:
            holder = watched.holder()
            # Without a Lease it is Helm alone, or a run that has not written it yet, or an earlier version's.
            age = seconds_since(stored["since"])
            alone = age < (GRACE_SECONDS if watched.was_held(age) else most)
            if holder or alone:  # perhaps a run that is alive
                if time.monotonic() > deadline:
                    self.module.fail_json(
                        msg=f"release {self.release} is {stored['status']} since {stored['since']}, and "
                        f"{holder or 'perhaps somebody'} works on it: wait for the end of that run, then run this again"
                    )
                time.sleep(POLL_SECONDS)
            elif stored["status"] == "uninstalling":
                self.helm("uninstall", self.release, "--timeout", f"{self.module.params['timeout_seconds']}s", "--wait")
            else:
                name = f"sh.helm.release.v1.{self.release}.v{stored['revision']}"
                if not self.kubectl("delete", "secret", name, "--ignore-not-found", "--output=name")[1].strip():
                    self.module.fail_json(
                        msg=f"release {self.release} is {stored['status']} since {stored['since']}, by a run that was "
                        f"killed, and has no Secret {name}: free it with `helm rollback {self.release}`"
                    )
            stored = self.stored()
        return stored

    @cached_property
    def is_version_3(self):
        """Whether this is Helm 3."""
        return self.helm("version", "--template", "{{.Version}}")[1].startswith("v3")

    def render(self):
        """The manifest that an upgrade would apply, rendered against the cluster (so the chart can look at it)."""
        out = self.upgrade("--dry-run=server", "--output", "json")
        return json.loads(out[out.index("{") :])["manifest"]

    def upgrade(self, *arguments):
        """`helm upgrade --install` with the values on standard input."""
        if not self.is_version_3:
            # Helm 4 applies on the server, which would refuse to put back a field that somebody else has edited.
            arguments = ("--server-side=true", "--force-conflicts", *arguments)
        return self.helm(
            "upgrade",
            "--install",
            self.release,
            self.module.params["chart"],
            "--values",
            "-",
            "--timeout",
            f"{self.module.params['timeout_seconds']}s",
            *arguments,
            data=json.dumps(self.module.params["values"]),
        )[1]

    def drift(self, manifest):
        """How what runs differs from `manifest`, as a unified diff; empty when it does not. kubectl masks Secrets."""
        code, out = self.kubectl("diff", "--concurrency=8", "-f", "-", data=manifest, accept=(0, 1))
        return re.sub(r"^(\+\+\+|---) \S*/([^/\s]+)\s.*$", r"\1 \2", out, flags=re.MULTILINE) if code else ""


def seconds_since(moment):
    """Seconds since a time as Helm writes it (RFC 3339, nanoseconds); many for one that cannot be read."""
    try:
        begun = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", moment))
    except ValueError:
        return GRACE_SECONDS
    return (datetime.now(begun.tzinfo) - begun).total_seconds()


def lines(manifest):
    """The lines of a manifest that are not empty: Helm 3 and Helm 4 differ in the empty ones they leave."""
    return [line for line in manifest.splitlines() if line.strip()]


def readable(said):
    """The message of a chart's own validation, or the last lines."""
    text = " ".join(" ".join(said).split())
    marker = "These values cannot be installed:"
    return text[text.index(marker) :] if marker in text else text[-700:]


def main():
    """Compare, then upgrade or not."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "chart": {"type": "path"},
            "values": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "kubeconfig": {"type": "path", "required": True},
            "context": {"type": "str"},
            "helm": {"type": "str", "default": "helm"},
            "timeout_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["chart"])],
    )
    for program in (module.params["helm"], "kubectl"):
        if not module.get_bin_path(program):
            module.fail_json(msg=f"{program} is not on PATH: install it")
    if module.params["state"] == "absent" and not Path(module.params["kubeconfig"]).exists():
        module.exit_json(changed=False)  # no cluster, no release
    helm = Helm(module)
    stored = helm.stored()
    if stored:
        helm.refuse_foreign()
    if module.params["state"] == "absent":
        if stored and not module.check_mode:
            with helm.work():
                helm.helm("uninstall", helm.release, "--timeout", f"{module.params['timeout_seconds']}s", "--wait")
        module.exit_json(changed=bool(stored))
    locked = bool(stored) and stored["status"] in LOCKED
    if locked and module.check_mode:  # Helm renders nothing while it is
        module.exit_json(changed=True, diff={"prepared": f"release {helm.release} is {stored['status']}: finish it"})
    stored = helm.freed(stored)
    with ThreadPoolExecutor() as pool:
        rendering = pool.submit(helm.render)
        # Nearly always what was stored is rendered again, and one answer serves for both.
        drifting = pool.submit(helm.drift, stored["manifest"]) if stored else None
        manifest = rendering.result()
        drift = drifting.result() if stored and lines(stored["manifest"]) == lines(manifest) else helm.drift(manifest)
    same = stored and stored["status"] == "deployed" and stored["values"] == module.params["values"]
    changed = locked or not same or lines(stored["manifest"]) != lines(manifest) or bool(drift)
    if changed and not module.check_mode:
        with helm.work():
            helm.upgrade()
        stored = helm.stored()
    module.exit_json(changed=changed, revision=(stored or {}).get("revision"), diff={"prepared": drift})


if __name__ == "__main__":
    main()
