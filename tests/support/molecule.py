"""Molecule, which does not ask before each of its plays whether there is an ansible-playbook.

    python -m tests.support.molecule [arguments of molecule]

It runs `ansible-playbook --version` before every play, half a second of CPU each; the role tests have some fifty plays
(docs/decisions/160).  One that is missing fails the play, as ever.
"""

from __future__ import annotations

import sys

from molecule.provisioner.ansible_playbook import AnsiblePlaybook
from molecule.shell import main

ASKS = "_validate_backend"
"""The method of Molecule's AnsiblePlaybook that asks."""

if __name__ == "__main__":
    getattr(AnsiblePlaybook, ASKS)  # an AttributeError when Molecule asks elsewhere
    setattr(AnsiblePlaybook, ASKS, lambda _self, _backend: None)
    sys.exit(main())
