"""A slow disk for some processes: their writes to one block device are limited by the kernel (cgroup I/O throttling).

A commit waits for fdatasync, so that a few writes a second make every journaled write
wait; other processes on the same disk are not touched.  Files: blkio.throttle.write_iops_device (cgroup v1, kernel
Documentation/admin-guide/cgroup-v1/blkio-controller.rst) or io.max (v2, cgroup-v2.rst).  Only v1 was ever run, in the
laboratory.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import ChaosError
from ..targets.selectors import Targets
from .fault import Fault
from .processes import running

CGROUPS = Path("/sys/fs/cgroup")
MEASURE = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
for _ in range(5):
    os.write(file, b"x" * 4096)
    started = time.perf_counter()
    os.fdatasync(file)
    print((time.perf_counter() - started) * 1000)
os.unlink(sys.argv[1])
"""
MEASURE_SECONDS = 60


def device_of(folder: Path) -> str:
    """The block device under a folder, "major:minor".  Raises ChaosError for a file system without one."""
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    if not Path(f"/sys/dev/block/{device}").exists():
        raise ChaosError(f"{folder} is not on a block device (overlay, tmpfs, btrfs): its writes cannot be slowed")
    return device


class ControlGroup:
    """A control group whose processes write at most `iops` times a second to `device`."""

    def __init__(self, name: str, root: Path = CGROUPS) -> None:
        self._old = (root / "blkio").is_dir()
        self._hierarchy = root / "blkio" if self._old else root
        self._group = self._hierarchy / f"shardmart-{name}"

    def requirement(self) -> str | None:
        """What is missing here, in words; None when nothing."""
        if not self._old and "io" not in _words(self._hierarchy / "cgroup.controllers"):
            return "a slow disk needs the kernel's I/O controller (cgroup v1 blkio, or v2 io)"
        if not os.access(self._hierarchy / "cgroup.procs", os.W_OK):
            return "a slow disk needs root: control groups cannot be written"
        return None

    def home(self, pid: int) -> str:
        """The group a process is in now, as a path below the hierarchy."""
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == ("blkio" if self._old else ""):
                return path.strip("/")
        raise ChaosError(f"process {pid} is in no group of {self._hierarchy}")

    def slow(self, pids: list[int], device: str, iops: int) -> None:
        """Move the processes into the group and limit it.  Raises ChaosError with the kernel's words."""
        try:
            if not self._old:
                (self._hierarchy / "cgroup.subtree_control").write_text("+io")
            self._group.mkdir(exist_ok=True)
            for pid in pids:
                (self._group / "cgroup.procs").write_text(str(pid))
            self._limit(device, str(iops))
        except OSError as error:
            raise ChaosError(f"the kernel refused the limit on {device}: {error.strerror}") from None

    def _limit(self, device: str, iops: str) -> None:
        if self._old:
            (self._group / "blkio.throttle.write_iops_device").write_text(f"{device} {'0' if iops == 'max' else iops}")
        else:
            (self._group / "io.max").write_text(f"{device} wiops={iops}")

    def write_ms(self, folder: Path) -> float:
        """How long a small durable write of a process in the group takes: the median of five, milliseconds."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", MEASURE, str(folder / f"{self._group.name}.probe")],
            preexec_fn=lambda: (self._group / "cgroup.procs").write_text(str(os.getpid())) and None,
            capture_output=True,
            text=True,
            timeout=MEASURE_SECONDS,
            check=True,
        )
        return round(statistics.median(map(float, done.stdout.split())), 2)

    def release(self, homes: dict[int, str], device: str) -> None:
        """Lift the limit, send the processes home and remove the group; what is not there any more is fine."""
        with contextlib.suppress(OSError):
            self._limit(device, "max")
        for pid, home in homes.items():
            with contextlib.suppress(OSError):
                (self._hierarchy / home / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):
            self._group.rmdir()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


class SlowWrites(Fault):
    """Durable writes of the targets wait: the kernel lets them write a few times a second."""

    kind = "slowdisk"

    begin_seconds = MEASURE_SECONDS + 30

    @property
    def _group(self) -> ControlGroup:
        return ControlGroup(self.parameters["id"])

    @property
    def _folder(self) -> Path:
        return self.targets.state.folder / "data"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        del targets
        return ControlGroup("any").requirement()

    def prepare(self) -> None:
        """Note the device, and the groups that the processes are in now."""
        found = running(self, "to slow")
        self.parameters["device"] = device_of(self._folder)
        # As text: keys of JSON are.
        self.parameters["homes"] = {str(process.pid): self._group.home(process.pid) for process in found.values()}

    def begin(self) -> None:
        """Limit the processes, then measure what a write in their place takes."""
        pids = [int(pid) for pid in self.parameters["homes"]]
        self._group.slow(pids, self.parameters["device"], int(self.parameters["iops"]))
        self.begun = time.time()
        self.parameters["write_ms"] = self._group.write_ms(self._folder)
        self.parameters["via"] = f"at most {self.parameters['iops']} writes a second to {self.parameters['device']}"

    def end(self) -> None:
        """Lift the limit."""
        homes = {int(pid): home for pid, home in self.parameters.get("homes", {}).items()}
        self._group.release(homes, self.parameters.get("device", "0:0"))

    def evidence(self) -> dict[str, Any]:
        """What a durable write took while it lasted, milliseconds."""
        return {"write_ms": self.parameters.get("write_ms")}
