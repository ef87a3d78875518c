"""Action plugin: run a Kubernetes Job to its end, showing its log as it is written.

A module could not show anything before it ends, so this runs inside Ansible itself, on the controller.  It deletes
nothing but an earlier Job of the same name that this project made.
"""

from __future__ import annotations

import json
import subprocess
import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from shardmart.platforms.kubernetes_commands import Commands

POLL_SECONDS = 0.5
LOG_SECONDS = 60
MADE_BY = "shardmart/made-by"
"""Label of what this project makes."""
SHOWN_ON_FAILURE = 15


class ActionModule(ActionBase):
    """See the module of the same name."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Create, follow, judge."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "definition": {"type": "dict", "required": True},
                "kubeconfig": {"type": "path", "required": True},
                "context": {"type": "str"},
                "wait_seconds": {"type": "int", "default": 600},
            }
        )
        result["changed"] = True
        if self._task.check_mode:
            return result
        self.commands = Commands(arguments["kubeconfig"], arguments["context"])
        metadata = arguments["definition"]["metadata"]
        self.job, self.namespace = f"job/{metadata['name']}", metadata["namespace"]
        self.deadline = time.monotonic() + arguments["wait_seconds"]
        self._refuse_foreign(metadata.get("labels") or {})
        self._kubectl("delete", self.job, "--ignore-not-found", "--cascade=foreground", "--wait")
        self._kubectl("create", "-f", "-", text=json.dumps(arguments["definition"]))
        lines = []
        while not (state := self._state()):
            if time.monotonic() > self.deadline:
                raise AnsibleActionFail(self._explain(f"did not end in {arguments['wait_seconds']} s", lines))
            lines = self._follow(lines)
            time.sleep(POLL_SECONDS)
        lines = self._follow(lines)
        result["lines"] = lines
        if state == "Failed":
            raise AnsibleActionFail(self._explain("failed", lines))
        return result

    def _refuse_foreign(self, labels):
        """Fail for a Job of this name that somebody else made: it lacks the label that says who makes ours."""
        found = self._kubectl("get", self.job, "--ignore-not-found", "-o", "json")
        there = (json.loads(found)["metadata"].get("labels") or {}) if found.strip() else labels
        if there.get(MADE_BY) != labels.get(MADE_BY):
            raise AnsibleActionFail(
                f"{self.job} in namespace {self.namespace} is there and not ours (no label {MADE_BY}="
                f"{labels.get(MADE_BY)}): remove it, or give this one another name"
            )

    def _state(self):
        """Complete, Failed, or nothing yet."""
        conditions = json.loads(self._kubectl("get", self.job, "-o", "json")).get("status", {}).get("conditions", [])
        ended = [c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
        return ended[0] if ended else None

    def _follow(self, seen):
        """Show the lines that are new; every line so far."""
        command = self.commands.kubectl(f"--namespace={self.namespace}", "logs", self.job, "--tail=-1")
        try:
            done = self.commands.run(command, timeout_s=LOG_SECONDS)
        except subprocess.TimeoutExpired:  # a log that is long or far away; the Job goes on, and its end is what counts
            Display().warning(f"kubectl logs {self.job} did not end in {LOG_SECONDS} s, it is asked again")
            return seen
        lines = done.stdout.splitlines() if done.returncode == 0 else seen
        for line in lines[len(seen) :]:
            Display().display(f"  {self.job}: {line}")
        return lines

    def _explain(self, what, lines):
        """The failure in one message: the job's own last lines, or why its pod did not start."""
        said = " | ".join(lines[-SHOWN_ON_FAILURE:])
        if not said:
            selector = f"job-name={self.job.removeprefix('job/')}"
            pods = json.loads(self._kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
            waiting = [
                status["state"]["waiting"].get("message") or status["state"]["waiting"]["reason"]
                for pod in pods
                for status in pod.get("status", {}).get("containerStatuses", [])
                if "waiting" in status["state"]
            ]
            said = "its pod did not start: " + ("; ".join(waiting) or "see kubectl describe")
        return f"{self.job} in namespace {self.namespace} {what}. {said}"

    def _kubectl(self, *arguments, text=None):
        command = self.commands.kubectl(f"--namespace={self.namespace}", *arguments)
        left = max(5.0, self.deadline - time.monotonic())
        try:
            done = self.commands.run(command, text, timeout_s=left)
        except FileNotFoundError:
            raise AnsibleActionFail("kubectl is not on PATH: install it") from None
        except subprocess.TimeoutExpired:
            raise AnsibleActionFail(f"kubectl {arguments[0]} {self.job} did not answer in {left:.0f} s") from None
        if done.returncode:
            raise AnsibleActionFail(f"kubectl {arguments[0]} {self.job}: {' '.join(done.stderr.split())[-500:]}")
        return done.stdout
