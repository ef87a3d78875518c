"""The `secret_files` module: generated once, readable by nobody else, never shown."""

from __future__ import annotations

from pathlib import Path

from tests.support.modules import run_module


def test_secrets_are_generated_once(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "secrets"
    arguments = {"folder": str(folder), "keyfiles": ["keyfile"], "passwords": ["admin.password"]}
    assert run_module("secret_files", check=True, **arguments)["changed"]
    assert not folder.exists()
    made = run_module("secret_files", **arguments)
    content = {file.name: file.read_text() for file in folder.iterdir()}
    assert sorted(content) == ["admin.password", "keyfile"]
    assert 6 <= len(content["keyfile"].strip()) <= 1024
    assert len(content["admin.password"].strip()) == 32
    assert all(secret.strip() not in str(made) for secret in content.values())
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}

    assert not run_module("secret_files", **arguments)["changed"]
    (folder / "keyfile").chmod(0o644)
    assert run_module("secret_files", **arguments)["changes"] == ["keyfile: mode 0600"]
    assert {file.name: file.read_text() for file in folder.iterdir()} == content


def test_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run_module("secret_files", folder=str(tmp_path / "file" / "secrets"), keyfiles=["keyfile"])
    assert result["failed"]
    assert "Not a directory" in result["msg"]
