"""Everything in this process: for tests of the saga without a server, and as the model of what a store promises."""

from .carts import MemoryCarts
from .catalogue import MemoryCatalogue
from .lanes import MemoryLanes
from .log import MemoryLog
from .state import LONG_AGO, Memory
from .store import MemoryStore

__all__ = ["LONG_AGO", "Memory", "MemoryCarts", "MemoryCatalogue", "MemoryLanes", "MemoryLog", "MemoryStore"]
