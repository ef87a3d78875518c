"""Functions of ours, called where the servers can be reached: here, or in the toolbox pod."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from shardmart.platforms.platform import last_line

from ..errors import ChaosError
from .selectors import Targets

AGENT = "shardmart.chaos.agents.call"
"""The program that calls a function in the toolbox."""
START_SECONDS = 60

Answer = TypeVar("Answer")


def call(targets: Targets, function: Callable[..., Answer], *, seconds: float, **arguments: Any) -> Answer:
    """What `function(state, **arguments)` returns where the servers can be reached; it may take `seconds`.

    Arguments and answer are JSON and no secret: a command line holds them.  Raises what the function raises, from the
    toolbox as ChaosError in the same words; PlatformError when it does not answer in time.
    """
    platform = targets.platform
    if platform.direct:
        return function(targets.state, **arguments)
    words = [platform.python, "-m", AGENT, function.__module__, function.__name__, json.dumps(arguments)]
    done = platform.run(words, timeout_s=START_SECONDS + seconds)
    if done.returncode:
        raise ChaosError(last_line(done.stderr) or f"the toolbox says nothing, exit code {done.returncode}")
    answer: Answer = json.loads(done.stdout)
    return answer
