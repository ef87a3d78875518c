"""Calls one function for an experimenter who cannot reach the servers: `python3 -m shardmart.chaos.agents.call MODULE
FUNCTION ARGUMENTS` in the toolbox pod (see `targets.beside`).  The answer is JSON on standard output."""

from __future__ import annotations

import importlib
import json
import sys

from pymongo.errors import PyMongoError

from shardmart.errors import UNREACHABLE, ShardmartError
from shardmart.platforms.state import State


def main() -> int:
    """Call it; 3 with one line on standard error when it raises."""
    module, name, arguments = sys.argv[1:]
    try:
        print(json.dumps(getattr(importlib.import_module(module), name)(State.find(), **json.loads(arguments))))
    except (ShardmartError, PyMongoError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return UNREACHABLE
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
