"""Action plugin of this project's modules: the module's own `main`, where its code already is.

Ansible runs a module by packing it into an archive, sending it and starting Python on it: about 1.2 s of CPU for one
that talks to MongoDB, nearly all of it compiling and importing, some twenty times in `site.yml`.

- Where the task's place is this very process's (connection `local`, the same interpreter, no `become`, no
  `environment`), the imports are already here: the worker Ansible forked for the task calls the module itself.
- Where the inventory says that a place has this project's code (`shardmart_modules`, the toolbox image), the module is
  run from there if it is the same code to the byte (plugins/run_module.py).
- Everywhere else it is sent as ever.

The files beside this one that link to it give the plugin to the module of their name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import shlex
import shutil
import sys
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase

PLUGINS = Path(__file__).resolve().parents[1]
if str(PLUGINS) not in sys.path:
    sys.path.append(str(PLUGINS))
run_module = importlib.import_module("run_module")
fingerprint = functools.cache(run_module.fingerprint)
importlib.import_module("before_fork")


class ActionModule(ActionBase):
    """The module of the task's name, where its code is."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """The module's result, however it was run."""
        result = super().run(tmp, task_vars)
        place = task_vars.get("ansible_delegated_vars", {}).get(self._task.delegate_to, task_vars)
        self._interpreter = str(self._templar.template(place.get("ansible_python_interpreter") or ""))
        if self._is_plain():
            if self._is_here():
                return result | self._call(self._arguments(task_vars))
            checkout = place.get("shardmart_modules")
            if checkout and (answer := self._call_there(Path(checkout), self._arguments(task_vars))):
                return result | answer
        return result | self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)

    def _is_plain(self):
        """Whether the task asks for no other user and no environment of its own, and is waited for."""
        return not (self._play_context.become or self._task.async_val or any(self._task.environment or []))

    def _is_here(self):
        """Whether this process is where the task belongs."""
        interpreter = shutil.which(self._interpreter) or self._interpreter
        return self._connection.transport == "local" and interpreter == sys.executable

    def _arguments(self, task_vars):
        """What Ansible gives a module: the task's arguments and how to run."""
        arguments = dict(self._task.args)
        self._update_module_args(self._task.resolved_action, arguments, task_vars)
        return arguments

    def _call(self, arguments):
        """Run `main` of the module as its own process would be, up to what it prints and its exit."""
        module = run_module.load(self._task.action)
        printed = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            module.main()
        return self._parse_returned_data({"stdout": printed.getvalue(), "stderr": ""}, "legacy")

    def _call_there(self, checkout, arguments):
        """The answer of the module that lies in the task's place; None when there is none, or of other code.

        A connection that fails gives no answer either, and sending the module then says why.
        """
        command = [self._interpreter, str(checkout / "plugins" / "run_module.py"), self._task.action, fingerprint()]
        text = json.dumps(arguments, cls=get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE))
        try:
            done = self._low_level_execute_command(shlex.join(command), sudoable=False, in_data=text.encode())
        except AnsibleError:
            return None
        if done["rc"] not in (0, 1) or not done["stdout"].lstrip().startswith("{"):
            return None
        return self._parse_returned_data(done, "legacy")
