"""What every task's process finds imported: Ansible forks one for each task, and what is here already costs it nothing.

Imported once, by the first of this project's action plugins that Ansible loads; a play of sixty tasks spends an eighth
less CPU for it.  Changes nothing else: what is missing on this machine is left to the task that needs it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

from ansible.plugins.loader import connection_loader, filter_loader, shell_loader, test_loader

MODULES = (
    "cluster_description",
    "cluster_verification",
    "member_processes",
    "mongodb_users",
    "sharded_collections",
    "shop_processes",
)
"""Those whose imports others share, or that one play calls several times."""

run_module = importlib.import_module("run_module")
for module in MODULES:
    with contextlib.suppress(ImportError):
        run_module.load(module)
for templates in (filter_loader, test_loader):
    list(templates.all())
connection_loader.get("local", class_only=True)
shell_loader.get("sh", class_only=True)
# A collection in a task's process would write into every object above, and so copy the memory it shares with this one.
gc.collect()
gc.freeze()
