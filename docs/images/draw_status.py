"""Draw docs/images/status.svg from the cluster that runs now: the real output of `shardmart status`."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from shardmart import status
from shardmart.platforms.state import State

if __name__ == "__main__":
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    console.print(status.render(status.read(State.find())))
    console.save_svg(str(Path(__file__).with_name("status.svg")), title="shardmart status")
