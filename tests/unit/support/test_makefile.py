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


def help_groups() -> dict[str, list[str]]:
    """What `make help` says: the commands of each group."""
    # Not as a part of the `make` that runs the tests, which would have it say where it is.
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(["make", "help"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    blocks = [block.splitlines() for block in done.stdout.strip().split("\n\n")]
    return {
        title: [re.split(r"  +", line.strip())[0] for line in lines if line[:3] != "   "] for title, *lines in blocks
    }


def test_help_has_every_target_once_by_what_a_person_does() -> None:
    text = (ROOT / "Makefile").read_text()
    parts = {"help", "lint-python", "lint-yaml"}  # what is asked for by itself, and what `lint` is made of
    targets = set(re.findall(r"^([a-z0-9-]+):(?!=)", text, re.MULTILINE)) - parts
    found = help_groups()
    assert list(found) == ["Start", "Look", "Break", "Stop", "Test", "Maintain"]
    told = [command for commands in found.values() for command in commands]
    # The longest name leaves one space before its text.
    assert sorted({line.split()[1] for line in told if line.startswith("make ")}) == sorted(targets)
    assert len(told) == len(set(told))
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert set(phony.replace("\\\n", " ").split()) >= targets


def test_help_names_commands_that_there_are() -> None:
    from shardmart.chaos.cli import app
    from shardmart.cli import COMMANDS

    said = [
        c.split()[1:] for commands in help_groups().values() for c in commands if c.startswith(".venv/bin/shardmart")
    ]
    chaos = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    assert [words for words in said if words[0] != "--help" and words[0] not in COMMANDS] == []
    assert [words for words in said if words[0] == "chaos" and words[1] not in chaos] == []
    assert [file for words in said for file in words if file.endswith(".json") and not (ROOT / file).exists()] == []
