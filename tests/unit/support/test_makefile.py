"""`make` on machines that are set up otherwise: encoding, home folder, another project's Ansible, parallel makes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def variables(*goals: str, **environment: str) -> dict[str, str]:
    """The variables that `make` comes to in this environment."""
    made = {
        name: value for name, value in os.environ.items() if name not in {"LC_ALL", "LC_CTYPE", "LANG", "MAKEFLAGS"}
    }
    command = ["make", "--print-data-base", "--dry-run", *(goals or ("help",))]
    done = subprocess.run(command, cwd=ROOT, env=made | environment, capture_output=True, text=True, check=True)
    return dict(re.findall(r"^(\w+) :?= (.*)$", done.stdout, re.MULTILINE)) | {"": done.stdout}


@pytest.mark.parametrize("encoding", [{"LC_ALL": "C"}, {"LANG": "C"}, {}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}])
def test_other_encodings_are_replaced_because_ansible_works_in_none(encoding: dict[str, str]) -> None:
    assert variables(**encoding)["LC_ALL"] in ("C.UTF-8", "en_US.UTF-8")


@pytest.mark.parametrize("encoding", [{"LC_ALL": "de_DE.UTF-8"}, {"LANG": "en_GB.utf8"}])
def test_an_encoding_that_works_stays(encoding: dict[str, str]) -> None:
    assert variables(**encoding).get("LC_ALL", "") == encoding.get("LC_ALL", "")


def test_configuration_of_another_project_has_no_effect() -> None:
    assert variables(ANSIBLE_CONFIG="/elsewhere/ansible.cfg")["ANSIBLE_CONFIG"] == str(ROOT / "ansible.cfg")


def test_home_folder_that_is_not_there_is_replaced(tmp_path: Path) -> None:
    assert variables(HOME=str(tmp_path / "nowhere"))["HOME"].endswith("/.venv/home")
    assert variables(HOME=str(tmp_path))["HOME"] == str(tmp_path)


def test_parts_of_the_tests_never_run_side_by_side_and_the_linters_may() -> None:
    assert ".NOTPARALLEL:" in variables("help")[""]
    assert ".NOTPARALLEL:" not in variables("lint-python", "lint-yaml")[""]
