"""How the files of a declaration are read: by libyaml where PyYAML was built with it, a sixth of the time.

Every command and every start of Ansible reads four of them.  Only plain values come out, never objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path) -> Any:
    """What a file says.  OSError when it cannot be read, yaml.YAMLError when it is not YAML."""
    text = path.read_text()
    try:
        return yaml.load(text, Loader=LOADER)  # noqa: S506  both are safe loaders
    except yaml.YAMLError:
        return yaml.safe_load(text)  # shows the line that is wrong, which libyaml does not
