"""The negative controls' mistakes: an instance that has one does not start by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardmart.shop import assembly
from shardmart.shop.cli import main
from shardmart.shop.settings import NEGATIVE_CONTROL


@pytest.mark.parametrize(("said", "starts"), [(None, False), ("1", False), ("yes", True)])
def test_an_instance_with_a_fault_is_started_only_where_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str | None, starts: bool
) -> None:
    config = tmp_path / "order.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"tokens": {"keys": ["k" * 40]}, "faults": ["outbox-outside-transaction"]}))
    monkeypatch.delenv(NEGATIVE_CONTROL, raising=False)
    if said is not None:
        monkeypatch.setenv(NEGATIVE_CONTROL, said)
    begun: list[str] = []
    monkeypatch.setattr(assembly, "assemble", lambda service, *_: begun.append(service))
    monkeypatch.setattr("shardmart.shop.web.serving.serve", lambda *_: None)
    assert main(["run", "order", "--config", str(config)]) == (0 if starts else 2)
    assert begun == (["order"] if starts else [])
    assert (f"only tests set {NEGATIVE_CONTROL}=yes" in capsys.readouterr().err) is not starts
