"""Where the shop's processes keep their files: the folder `shop` of the state folder."""

from __future__ import annotations

from pathlib import Path

FOLDER = "shop"


class ShopFiles:
    """Where the shop's processes keep their files in a state folder."""

    def __init__(self, state: Path, kafka_jars: Path | None = None) -> None:
        """`kafka_jars` is the folder with Kafka's programs, for a shop that has brokers."""
        self.state, self.kafka_jars = state, kafka_jars
        self.folder = state / FOLDER

    def configuration(self, name: str) -> Path:
        """The configuration file of a process; a folder for the load balancer."""
        return self.folder / "config" / name

    def data(self, name: str) -> Path:
        """The data folder of a process."""
        return self.folder / "data" / name

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / "logs" / f"{name}.log"

    def socket(self, name: str) -> Path:
        """Where a process listens that has no port: in a folder of its owner's."""
        return self.folder / "run" / f"{name}.sock"

    @property
    def certificates(self) -> Path:
        """The folder of the cluster's certificate."""
        return self.state / "tls"

    @property
    def health_log(self) -> Path:
        """Where the load balancer writes whom it takes out and brings back."""
        return self.folder / "logs" / "health-checks.log"

    def pid(self, name: str) -> Path:
        """The pid file of a process."""
        return self.folder / "run" / f"{name}.pid"

    def make(self) -> None:
        """The folders, readable by their owner only."""
        for folder in (self.folder, *(self.folder / one for one in ("config", "data", "logs", "run"))):
            folder.mkdir(exist_ok=True, mode=0o700)
