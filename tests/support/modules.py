"""Call an Ansible module in this process, as ansible-core would, and get its result."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).parents[2]
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))


def run_module(name: str, /, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The result of plugins/modules/`name`.py; a failure is a result with "failed"."""
    spec = importlib.util.spec_from_file_location(f"module_{name}", ROOT / "plugins" / "modules" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    output = io.StringIO()
    with (
        patch_module_args(arguments | {"_ansible_check_mode": check, "_ansible_diff": True}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        module.main()
    result: dict[str, Any] = json.loads(output.getvalue().strip().splitlines()[-1])
    return result
