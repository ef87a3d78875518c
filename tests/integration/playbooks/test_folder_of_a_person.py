"""The playbooks in a folder that is not theirs: one line, and nothing of it is changed, stopped or removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.plays import Site

DESTROY = ("-e", "destroy_data=true")


@pytest.mark.parametrize(
    "arguments", [("site.yml",), ("playbooks/destroy.yml", *DESTROY), ("playbooks/fragments-destroy.yml", *DESTROY)]
)
def test_home_folder_as_state_folder_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    site = Site(tmp_path)
    for name in ("data", "logs"):
        (site.state / name).mkdir(parents=True)
        (site.state / name / "mine.txt").write_text("mine")
    site.state.chmod(0o755)
    refused = site.play(*arguments)
    assert refused.code != 0
    assert f"{site.state} has data, logs and no .shardmart-state, so this project did not make it" in refused.output
    assert "mine" in (site.state / "data" / "mine.txt").read_text()
    assert sorted(entry.name for entry in site.state.iterdir()) == ["data", "logs"]
    assert site.state.stat().st_mode & 0o777 == 0o755
