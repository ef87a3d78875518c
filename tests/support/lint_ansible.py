"""ansible-lint with the syntax of every play and role checked by one ansible-playbook, not by one for each.

    python -m tests.support.lint_ansible [arguments of ansible-lint]

ansible-lint starts `ansible-playbook --syntax-check` for each playbook, each role and each playbook that another one
imports: some 120 starts of Ansible, most of what it costs (docs/decisions/158).  Here Ansible starts once, reads the
same files, and says which one is wrong; ansible-lint's rules then run as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
NEEDS_AN_ENVIRONMENT = Path("molecule/verify.yml")
"""Imports what Molecule's environment names; `.ansible-lint.yml` leaves it out, too."""


def playbooks(root: Path) -> list[Path]:
    """Every playbook of a checkout: site.yml, and the lists of plays in playbooks/ and molecule/."""
    files = [root / "site.yml", *(root / "playbooks").glob("*.yml"), *(root / "molecule").rglob("*.yml")]
    left_out = root / NEEDS_AN_ENVIRONMENT
    return sorted(file for file in files if file != left_out and _has_plays(file))


def _has_plays(file: Path) -> bool:
    """Whether it is a playbook; one that is no YAML is for Ansible to refuse."""
    try:
        read = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        return True
    keys = {"hosts", "import_playbook", "ansible.builtin.import_playbook"}
    return isinstance(read, list) and any(isinstance(one, dict) and keys & one.keys() for one in read)


def roles(root: Path) -> list[str]:
    """Names of the roles that have tasks."""
    return sorted(file.parts[-3] for file in (root / "roles").glob("*/tasks/main.yml"))


def syntax_errors(root: Path) -> str:
    """What Ansible says of the first playbook or role that it cannot load; nothing when it can load all."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=root, prefix=".every-role-") as every_role:
        play: dict[str, Any] = {"name": "Load every role", "hosts": "localhost"}
        yaml.safe_dump([play | {"roles": [{"role": name} for name in roles(root)]}], every_role)
        every_role.flush()
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "--syntax-check", "-vv", "-i", "localhost,"]
        done = subprocess.run(
            [*command, *map(str, playbooks(root)), every_role.name],
            cwd=root, env=os.environ | {"ANSIBLE_INVENTORY_ENABLED": "host_list"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr or done.stdout


def lint(arguments: Sequence[str]) -> int:
    """Exit code of ansible-lint, which takes the syntax for checked.  AttributeError when it is of another make."""
    from ansible_compat.runtime import Runtime
    from ansiblelint.__main__ import main
    from ansiblelint.runner import Runner

    for kind, name, instead in (
        (Runner, "_get_ansible_syntax_check_matches", lambda _self, **_lintable: []),
        (Runtime, "has_playbook", lambda _self, playbook, **_folder: Path(playbook).exists()),
    ):
        getattr(kind, name)  # what is replaced has to be there, or ninety checks would silently be back
        setattr(kind, name, instead)
    code: int = main(["ansible-lint", *arguments])
    return code


if __name__ == "__main__":
    if wrong := syntax_errors(ROOT):
        sys.exit(wrong)
    sys.exit(lint(sys.argv[1:]))
