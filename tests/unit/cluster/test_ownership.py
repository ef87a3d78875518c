"""Which folders are ours: a person's own folder is neither closed, taken, nor emptied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host import ownership
from tests.support.clusters import small_topology
from tests.support.modules import run_module


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o7777


def test_new_folder_is_private_and_marked_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    assert ownership.take(folder, check_mode=True) == [f"make {folder}", f"mark {folder} as a state folder"]
    assert not folder.parent.exists()
    ownership.take(folder)
    assert mode(folder) == 0o700
    assert ownership.is_ours(folder)
    assert ownership.take(folder) == []
    folder.chmod(0o755)
    assert ownership.take(folder) == [f"{folder}: mode 0700"]
    assert mode(folder) == 0o700


@pytest.mark.parametrize("name", ownership.KEPT)
def test_persons_own_folder_is_refused_by_name_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    for state in ("present", "absent"):
        refused = run_module("state_folder", path=str(tmp_path), state=state)
        assert refused["msg"].startswith(
            f"{tmp_path} has {name} and no {ownership.MARKER}, so this project did not make"
        )
    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"
    assert mode(tmp_path) == 0o755
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_folder_with_files_of_others_keeps_its_mode_and_the_files(tmp_path: Path) -> None:
    """As with SHARDMART_STATE=/tmp or $HOME."""
    tmp_path.chmod(0o1777)
    (tmp_path / "mine.txt").write_text("mine")
    run_module("state_folder", path=str(tmp_path))
    run_module("secret_files", folder=str(tmp_path / "secrets"), keyfiles=["keyfile"])
    assert mode(tmp_path) == 0o1777
    assert mode(tmp_path / "secrets") == 0o700
    (tmp_path / "data").mkdir()
    (tmp_path / "binaries").mkdir()
    removed = run_module("state_folder", path=str(tmp_path), state="absent")
    assert removed["changes"] == [f"remove {tmp_path / name}" for name in ("data", "secrets", ownership.MARKER)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["binaries", "mine.txt"]
    assert not run_module("state_folder", path=str(tmp_path), state="absent")["changed"]


def test_folder_that_others_may_write_in_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ClusterError, match=r"may be written by other users \(mode 0775\)"):
        ownership.take(tmp_path)
    assert not ownership.is_ours(tmp_path)


def test_folder_that_only_has_fetched_servers_is_closed(tmp_path: Path) -> None:
    (tmp_path / "binaries").mkdir()
    tmp_path.chmod(0o775)
    ownership.take(tmp_path)
    assert mode(tmp_path) == 0o700


def test_certificates_of_ones_own_may_be_there_before(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").touch()
    ownership.take(tmp_path)
    assert ownership.is_ours(tmp_path)


def test_state_folder_of_an_earlier_version_is_taken_over_and_one_like_it_is_not(tmp_path: Path) -> None:
    earlier, open_folder = tmp_path / "earlier", tmp_path / "open"
    for folder in (earlier, open_folder):
        for name in ("secrets", "data", "logs"):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / "secrets" / "keyfile").touch(mode=0o600)
        (folder / "cluster.json").write_text(small_topology().dumps())
    (open_folder / "logs").chmod(0o755)  # an earlier version made every folder for its owner alone
    ownership.take(earlier)
    assert ownership.is_ours(earlier)
    shutil.rmtree(earlier)
    with pytest.raises(ClusterError, match="did not make it"):
        ownership.take(open_folder)


def test_marker_goes_last_so_that_a_killed_removal_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    ownership.take(folder)
    for name in ("data", "logs"):
        (folder / name).mkdir()
    real = shutil.rmtree

    def killed(path: Path) -> None:
        if path.name == "logs":
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run_module("state_folder", path=str(folder), state="absent")
    monkeypatch.undo()
    assert not (folder / "data").exists()
    assert run_module("state_folder", path=str(folder), state="absent")["changed"]
    assert list(folder.iterdir()) == []


def test_secrets_folder_outside_a_state_folder_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    run_module("secret_files", folder=str(folder), keyfiles=["keyfile"])
    assert mode(folder) == 0o755
    folder.chmod(0o777)
    assert (
        "may be written by other users" in run_module("secret_files", folder=str(folder), keyfiles=["keyfile"])["msg"]
    )
