"""Prints the path of the pip that comes with this Python, a wheel that runs as it is.

`python3 -m venv` installs and compiles that pip first, which takes longer than everything else of `make install`.
"""

import sys
import sysconfig
from pathlib import Path

try:
    import ensurepip
except ImportError:
    sys.exit("Python's ensurepip is missing (on Debian: apt install python3-venv)")
folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
print(max(Path(folder).glob("pip-*.whl")))
