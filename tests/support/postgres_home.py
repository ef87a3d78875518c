"""Where PostgreSQL servers of tests keep their data: outside of pytest's folders.

Where tests run as root the servers run as another user, who has no way into those.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "SHARDMART_POSTGRES_HOME"


@contextmanager
def postgres_home(name: str) -> Iterator[Path]:
    """A folder that any user may walk through, removed at the end; servers started in the block lie in it."""
    home = Path(tempfile.mkdtemp(prefix=f"shardmart-{name}-"))
    home.chmod(0o711)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(home / "servers")
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
