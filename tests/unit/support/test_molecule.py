"""What tests/support/molecule.py leaves out is where it looks for it, and does nothing else."""

from __future__ import annotations

import inspect

from molecule.provisioner.ansible_playbook import AnsiblePlaybook

from tests.support import molecule


def test_molecule_asks_for_ansible_in_the_method_that_is_left_out() -> None:
    asks = getattr(AnsiblePlaybook, molecule.ASKS)
    assert list(inspect.signature(asks).parameters) == ["self", "backend"]
    assert '[backend, "--version"]' in inspect.getsource(asks)
