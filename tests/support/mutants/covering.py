"""A pytest plugin that writes down which test runs which lines of the modules asked for.

`SHARDMART_COVERING` names them, and the file to write (JSON): {"modules": [path, …], "result": path}. The result maps
a module to its lines to the tests that ran them. Only frames of these modules are traced: everything else runs at its
own speed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

Lines = defaultdict[str, defaultdict[int, set[str]]]
_asked = json.loads(os.environ["SHARDMART_COVERING"])
_modules = frozenset(_asked["modules"])
_ran: Lines = defaultdict(lambda: defaultdict(set))
_test = ""


def _trace(frame: FrameType, event: str, _argument: Any) -> Any:
    if event == "call" and frame.f_code.co_filename not in _modules:
        return None
    _ran[frame.f_code.co_filename][frame.f_lineno].add(_test)
    return _trace


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _test
    _test = item.nodeid
    threading.settrace(_trace)
    sys.settrace(_trace)
    yield
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]


def pytest_sessionfinish() -> None:
    result = {module: {line: sorted(tests) for line, tests in lines.items()} for module, lines in _ran.items()}
    Path(_asked["result"]).write_text(json.dumps(result))
