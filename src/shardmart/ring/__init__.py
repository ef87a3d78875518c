"""A consistent-hash ring over standalone MongoDB servers: a library, told where its nodes are by `Settings`.

`RingClient` reads and writes; `moves` makes a ring and changes its nodes; `upkeep` mends.  It starts no servers and
knows nothing of the cluster beside it.
"""

from .client import RingClient
from .errors import (
    ChangeRefusedError,
    ConflictError,
    KeyTypeError,
    NotAcknowledgedError,
    RingError,
    SettingsError,
    StoreError,
    UnavailableError,
    ValueTooLargeError,
    WrongNodeError,
)
from .node.record import Version
from .placement.keys import Grouped, Key
from .placement.ring import Ring
from .reading import Found
from .settings import Settings
from .writing import Acknowledged

__all__ = [
    "Acknowledged",
    "ChangeRefusedError",
    "ConflictError",
    "Found",
    "Grouped",
    "Key",
    "KeyTypeError",
    "NotAcknowledgedError",
    "Ring",
    "RingClient",
    "RingError",
    "Settings",
    "SettingsError",
    "StoreError",
    "UnavailableError",
    "ValueTooLargeError",
    "Version",
    "WrongNodeError",
]
