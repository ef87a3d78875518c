"""Action plugin of the modules that run on this machine: the module's own `main`, without a new interpreter.

Ansible runs a module by packing it into an archive and starting Python on it: about 1.2 s of CPU for one that talks to
MongoDB, nearly all of it imports, 17 times in `site.yml`.  Where the task's place is this very process's (connection
`local`, the same interpreter, no `become`, no `environment`), the imports are already here: the worker Ansible forked
for the task calls the module itself.  Everywhere else (kind: the toolbox pod) the module is sent as ever.

The files beside this one that link to it give the plugin to the module of their name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import sys
from pathlib import Path

import ansible.module_utils
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import module_loader

# Where the wrapper would look too; and imported before the fork, once for all tasks.
PLUGINS = Path(__file__).resolve().parents[1]
if str(PLUGINS / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))
importlib.import_module("ansible.module_utils.shardmart.cluster.module")


class ActionModule(ActionBase):
    """The module of the task's name, here where that is where it belongs."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """The module's result, however it was run."""
        result = super().run(tmp, task_vars)
        if self._is_elsewhere(task_vars):
            return result | self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)
        arguments = dict(self._task.args)
        self._update_module_args(self._task.resolved_action, arguments, task_vars)
        return result | self._call(arguments)

    def _is_elsewhere(self, task_vars):
        """Whether the task asks for another place, user, interpreter or environment than this process's."""
        interpreter = str(self._templar.template(task_vars.get("ansible_python_interpreter") or ""))
        return (
            self._connection.transport != "local"
            or self._play_context.become
            or self._task.async_val
            or any(self._task.environment or [])
            or (shutil.which(interpreter) or interpreter) != sys.executable
        )

    def _call(self, arguments):
        """Run `main` of the module as its own process would be, up to what it prints and its exit."""
        path = module_loader.find_plugin(self._task.action, mod_type=".py")
        spec = importlib.util.spec_from_file_location(f"shardmart_module_{self._task.action}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        printed = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            module.main()
        return self._parse_returned_data({"stdout": printed.getvalue(), "stderr": ""}, "legacy")
