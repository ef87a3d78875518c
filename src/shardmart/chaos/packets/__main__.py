"""`python -m shardmart.chaos.packets FAULT.json` (or `-` for standard input): hold one network fault; 0, 2 if refused.
`python -m shardmart.chaos.packets --clear`: undo what an injector left that was killed."""

from __future__ import annotations

import sys
from pathlib import Path

from .injector import NetworkFault, clear, hold, report
from .queue import QueueError
from .rules import RulesError


def main() -> int:
    """Read the fault, hold it, and say on standard error why if it could not be."""
    source = sys.argv[1] if len(sys.argv) == 2 else "-"
    if source == "--clear":
        clear()
        return 0
    fault = NetworkFault.from_json(sys.stdin.read() if source == "-" else Path(source).read_text())
    try:
        hold(fault)
    except (RulesError, QueueError) as error:
        report("refused", reason=str(error))
        print(f"chaos.packets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
