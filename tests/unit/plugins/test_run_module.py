"""A module that lies in the toolbox image runs from there only when it is the caller's code to the byte."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_module", ROOT / "plugins" / "run_module.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The checkout as the toolbox image has it."""
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tmp_path


def run(image: Path, fingerprint: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(image / "plugins" / "run_module.py"), "secret_files", fingerprint]
    arguments = {"folder": str(folder), "passwords": ["one.password"]}
    return subprocess.run(command, input=json.dumps(arguments), capture_output=True, text=True, check=False)


def test_same_code_answers_as_a_module(runner: ModuleType, image: Path, tmp_path: Path) -> None:
    done = run(image, runner.fingerprint(), tmp_path / "secrets")
    assert json.loads(done.stdout)["changed"] is True, done.stderr
    assert (tmp_path / "secrets" / "one.password").exists()


@pytest.mark.parametrize("file", ["src/shardmart/cluster/host/files.py", "plugins/modules/secret_files.py"])
def test_other_code_does_nothing(runner: ModuleType, image: Path, tmp_path: Path, file: str) -> None:
    (image / file).write_text((image / file).read_text() + "\n")
    done = run(image, runner.fingerprint(), tmp_path / "secrets")
    assert done.returncode == runner.OTHER_CODE
    assert not done.stdout
    assert not (tmp_path / "secrets").exists()
