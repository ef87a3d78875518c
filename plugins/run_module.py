"""Run a module of this checkout by name: what the action plugin `local_module` calls in a pod of the toolbox image.

    python3 plugins/run_module.py NAME FINGERPRINT < arguments.json

The arguments are those Ansible gives a module, its answer is the module's.  Exit code 75, and nothing done, when the
code here is not the caller's: then the module has to be sent.  Imports nothing before it has compared.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

OTHER_CODE = 75
CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = ("plugins/modules", "src/shardmart")
SUFFIXES = {".py", ".yml", ".json"}


def fingerprint(checkout=CHECKOUT):
    """SHA-256 of what a module can import or read, names and contents; hexadecimal."""
    digest = hashlib.sha256()
    for part in PARTS:
        for file in sorted((checkout / part).rglob("*")):
            if file.suffix in SUFFIXES:
                content = file.read_bytes()
                digest.update(f"{file.relative_to(checkout)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def load(name):
    """The module called `name`, ready for its `main`."""
    import ansible.module_utils

    # Where Ansible's own wrapper would look too.
    if (utils := str(CHECKOUT / "plugins" / "module_utils")) not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(utils)
    file = CHECKOUT / "plugins" / "modules" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"shardmart_module_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Compare, then be the module."""
    name, expected = sys.argv[1:]
    if fingerprint() != expected:
        sys.exit(OTHER_CODE)
    from ansible.module_utils.testing import patch_module_args

    module = load(name)
    with patch_module_args(json.load(sys.stdin)):
        module.main()


if __name__ == "__main__":
    main()
