"""What every benchmark's command line has: `--help`, and an end that takes its servers along."""

from __future__ import annotations

import argparse
import signal


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the benchmark's own text.

    From now on SIGTERM ends the program as Ctrl-C does, so that what it started is ended with it; and Ctrl-C does too
    where a shell had it ignored, as for what it starts in the background.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
