"""The one syntax check instead of ninety: it reads what ansible-lint would have, and names what is wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support import lint_ansible
from tests.support.lint_ansible import ROOT, playbooks, roles, syntax_errors

HOSTS = re.compile(r"^ *-? *(hosts|ansible\.builtin\.import_playbook):", re.MULTILINE)


def test_every_playbook_and_every_role_is_read() -> None:
    folders = [ROOT / "playbooks", ROOT / "molecule"]
    written = {file for folder in folders for file in folder.rglob("*.yml") if HOSTS.search(file.read_text())}
    assert set(playbooks(ROOT)) == (written | {ROOT / "site.yml"}) - {ROOT / "molecule" / "verify.yml"}
    assert set(roles(ROOT)) == {file.parts[-3] for file in (ROOT / "roles").rglob("tasks/main.yml")}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A playbook and a role that no playbook names, both well."""
    (tmp_path / "site.yml").write_text("- hosts: localhost\n  tasks:\n    - ansible.builtin.debug:\n")
    (tmp_path / "roles" / "alone" / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "alone" / "tasks" / "main.yml").write_text("- ansible.builtin.debug:\n")
    shutil.copy(ROOT / "ansible.cfg", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("site.yml", "- hosts: localhost\n  task: []\n", "'task' is not a valid attribute for a Play"),
        ("playbooks/more.yml", "- hosts: [\n", "YAML parsing failed"),
        ("roles/alone/tasks/main.yml", "- ansible.builtin.import_tasks: absent.yml\n", "absent.yml"),
    ],
)
def test_what_ansible_cannot_load_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, words: str
) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", str(checkout / "ansible.cfg"))
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text(text)
    assert words in syntax_errors(checkout)


def test_nothing_is_said_of_what_loads(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", str(checkout / "ansible.cfg"))
    assert syntax_errors(checkout) == ""
    assert [file.name for file in checkout.glob(".every-role-*")] == []


def test_an_ansible_lint_of_another_make_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansiblelint.runner import Runner

    monkeypatch.delattr(Runner, "_get_ansible_syntax_check_matches")
    with pytest.raises(AttributeError, match="_get_ansible_syntax_check_matches"):
        lint_ansible.lint(["--version"])
