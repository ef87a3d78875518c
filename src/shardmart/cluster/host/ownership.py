"""Which folders of this machine are ours to change and remove: those with a marker that we wrote when we took them.

`$SHARDMART_STATE` may name any folder, a person's home too.  A folder is taken for a state folder only while nothing
stands in it under a name of KEPT, so whatever stands there later was made by us; nothing else in it is ever touched.
"""

from __future__ import annotations

import json
import os
import stat
from fnmatch import fnmatch
from pathlib import Path

from .. import description
from ..errors import ClusterError
from .files import write_whole

MARKER = ".shardmart-state"
KEPT = (
    *("cluster.json", "config", "data", "fragments.json", "kubeconfig", "logs"),
    *("postgres", "rings", "run", "secrets", "shop", "tls"),
)
"""Names in a state folder that are ours once it is marked."""
PREPARED = {"tls": ("ca.pem", "ca-key.pem", "server.pem"), "secrets": ("keyfile", "*.password")}
"""What a person may put there for us to use."""
BEFORE = {"binaries", "chaos"}
"""What may be in a state folder of ours before it is marked: servers that were fetched, reports."""
NOTE = "A state folder of Shardmart: `playbooks/destroy.yml` removes from it what this project made, and this file."


def is_ours(folder: Path) -> bool:
    """Whether the folder has our marker."""
    return (folder / MARKER).is_file()


def refuse_foreign(folder: Path) -> None:
    """ClusterError unless the folder is ours, or has nothing under a name of KEPT."""
    if is_ours(folder) or _of_before_markers(folder):
        return
    if taken := [name for name in KEPT if (folder / name).exists() and not _prepared(folder / name)]:
        raise ClusterError(
            f"{folder} has {', '.join(taken)} and no {MARKER}, so this project did not make it and touches nothing in "
            f"it: name another folder with SHARDMART_STATE (if it is a cluster of yours: touch {folder / MARKER})"
        )


def take(folder: Path, *, check_mode: bool = False) -> list[str]:
    """Have the folder, of mode 0700 where we made it, with our marker; what was or would be changed.

    The mode of a folder that was there with somebody's files stays as it is.  ClusterError for one that is not ours to
    take, or in which other users may replace what is ours.
    """
    refuse_foreign(folder)
    marked = is_ours(folder)
    changes = []
    if not folder.exists():
        changes.append(f"make {folder}")
        if not check_mode:
            folder.mkdir(mode=0o700, parents=True)
        private = True
    else:
        found = folder.stat()
        private = _made_private(folder) if marked else _is_bare(folder)
        if private and found.st_mode & 0o077:
            changes.append(f"{folder}: mode 0700")
            if not check_mode:
                folder.chmod(0o700)
        elif found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX and not private:
            raise ClusterError(
                f"{folder} may be written by other users (mode {stat.S_IMODE(found.st_mode):04o}), who could replace "
                "the secrets in it: take that right from them (chmod go-w) or name another folder"
            )
    if not marked:
        changes.append(f"mark {folder} as a state folder")
        if not check_mode:
            write_whole(folder / MARKER, json.dumps({"note": NOTE, "private": private}) + "\n")
    return changes


def _prepared(path: Path) -> bool:
    """Whether somebody put certificates or secrets of their own where a state folder has them, and nothing else."""
    patterns = PREPARED.get(path.name, ())
    return path.is_dir() and all(any(fnmatch(e.name, pattern) for pattern in patterns) for e in path.iterdir())


def _is_bare(folder: Path) -> bool:
    """Whether a folder is this user's own and holds nothing that is not ours."""
    names = {entry.name for entry in folder.iterdir()}
    names -= {name for name in names if name in PREPARED and _prepared(folder / name)}
    return folder.stat().st_uid == os.geteuid() and (names <= BEFORE or _of_before_markers(folder))


def _made_private(folder: Path) -> bool:
    """What the marker says of the folder itself; one that somebody touched says nothing."""
    try:
        return bool(json.loads((folder / MARKER).read_text())["private"])
    except (ValueError, KeyError, TypeError):
        return False


def _of_before_markers(folder: Path) -> bool:
    """Whether an earlier version made this state folder: a description, a keyfile, and every folder closed to others,
    as it made them."""
    try:
        description.read(folder / "cluster.json")
    except (OSError, ValueError, ClusterError):
        return False
    folders = [folder / name for name in KEPT if (folder / name).is_dir()]
    return (folder / "secrets" / "keyfile").is_file() and not any(f.stat().st_mode & 0o077 for f in folders)
