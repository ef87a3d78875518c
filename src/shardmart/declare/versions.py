"""The pins: which MongoDB servers, images and npm packages are used, and by which hash.

`versions.yml` beside this file is their one home.  Nothing here fetches anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shardmart.cluster.host.binaries import Source, Tarball, Wheel
from shardmart.declare import yaml_files

DEFAULT_FILE = Path(__file__).with_name("versions.yml")


@dataclass(frozen=True)
class Server:
    """A version of MongoDB and where it can be fetched."""

    version: str
    tarball: Tarball | None = None
    wheel: Wheel | None = None


@dataclass(frozen=True)
class Versions:
    """Every pin. `images` and `npm` map a name to what is pinned."""

    mongodb_image: str
    servers: tuple[Server, ...]
    images: Mapping[str, str]
    npm: Mapping[str, str]

    @property
    def mongodb(self) -> str:
        """The version of a topology that names none."""
        return self.servers[0].version

    @property
    def wheel(self) -> Wheel:
        """The wheel that stands in where nothing else can be fetched."""
        return next(server.wheel for server in self.servers if server.wheel)

    def sources(self, version: str) -> tuple[Source, ...]:
        """Where to fetch `version`: itself first, then the wheel that stands in; nothing for a version not pinned."""
        for server in self.servers:
            if server.version == version:
                exact = [source for source in (server.tarball, server.wheel) if source]
                return tuple(dict.fromkeys([*exact, self.wheel]))
        return ()

    def as_variables(self, version: str) -> dict[str, Any]:
        """Plain data for Ansible: the version, its tarball and wheel ({} where there is none), and the images."""
        sources = self.sources(version)
        return {
            "mongodb_version": version,
            "mongodb_tarball": next((asdict(s) for s in sources if isinstance(s, Tarball)), {}),
            "mongodb_wheel": next((asdict(s) for s in sources if isinstance(s, Wheel)), {}),
            "mongodb_wheel_version": self.wheel.version,
            "image_pins": dict(self.images),
        }


@cache
def load(path: Path = DEFAULT_FILE) -> Versions:
    """Read the pins."""
    document = yaml_files.read(path)
    return Versions(
        mongodb_image=document["mongodb"]["image"],
        servers=tuple(_server(entry) for entry in document["mongodb"]["servers"]),
        images=document["images"],
        npm=document["npm"],
    )


def _server(entry: Mapping[str, Any]) -> Server:
    version = entry["version"]
    return Server(
        version,
        Tarball(version=version, **entry["tarball"]) if "tarball" in entry else None,
        Wheel(version=version, **entry["wheel"]) if "wheel" in entry else None,
    )
