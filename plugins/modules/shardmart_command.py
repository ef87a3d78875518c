#!/usr/bin/python
"""Ansible module: one command of `shardmart`, in this very process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: shardmart_command
short_description: Run a command of shardmart
description:
  - Runs C(shardmart WORD ...) in the process of the module, which on this machine has imported most of what it needs
    (docs/decisions/011), and returns what M(ansible.builtin.command) returns. A task says itself what has changed.
  - A password never is an argument; commands take it from the state folder.
attributes:
  check_mode: {support: partial, description: "Runs nothing, says changed; what only looks sets C(check_mode: false)."}
  diff_mode: {support: none, description: A command ran.}
options:
  arguments: {description: The words after C(shardmart)., type: list, elements: str, required: true}
  own_process:
    description: Start a process for it, for a command that starts processes itself.
    type: bool
    default: false
requirements: [the Python package shardmart]
author: Shardmart
"""

EXAMPLES = r"""
- name: Read the cluster
  shardmart_command:
    arguments: [status, --state=.shardmart]
  register: cluster_status
  changed_when: false
  failed_when: cluster_status.rc not in [0, 1]
"""

RETURN = r"""
rc: {description: The exit code., type: int, returned: always}
stdout: {description: What it wrote., type: str, returned: always}
stderr: {description: What it said on standard error., type: str, returned: always}
"""

import contextlib
import importlib
import importlib.util
import io
import sys

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

PROGRAM = "from shardmart.cli import main; main()"


def here(arguments):
    """Exit code and both outputs of the command, run in this process."""
    command = importlib.import_module("shardmart.command")
    commands = importlib.import_module("shardmart.cli").COMMANDS
    out, error = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            command.run(arguments[0], commands[arguments[0]][0], arguments[1:])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return code, out.getvalue(), error.getvalue()


def main():
    """Run it and return what it said."""
    module = AnsibleModule(
        argument_spec={
            "arguments": {"type": "list", "elements": "str", "required": True},
            "own_process": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    arguments = module.params["arguments"]
    if importlib.util.find_spec("shardmart") is None:
        module.fail_json(msg=missing_required_lib("shardmart"))
    if module.params["own_process"]:
        code, out, error = module.run_command([sys.executable, "-c", PROGRAM, *arguments])
    else:
        code, out, error = here(arguments)
    out, error = out.rstrip("\n"), error.rstrip("\n")
    result = {"changed": True, "rc": code, "stdout": out, "stdout_lines": out.splitlines(), "stderr": error}
    if code:
        module.fail_json(msg=error or f"shardmart {arguments[0]} ended with exit code {code}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
