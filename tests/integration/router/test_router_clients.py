"""Clients other than PyMongo: the Node driver and mongosh, unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shardmart.declare import versions
from tests.support.clusters import ROOT, EmbeddedCluster

NODE = Path(__file__).parent / "node"
MONGOSH_FOLDER = ROOT / ".shardmart" / "mongosh"
GET_MONGOSH = f"npm install --prefix .shardmart/mongosh mongosh@{versions.load().npm['mongosh']}"


def run(cluster: EmbeddedCluster, command: list[str], **environment: str) -> str:
    """Standard output of a client, which gets the connection string as $URI; it has to end with 0."""
    variables = {"URI": cluster.uri(), "HOME": str(cluster.folder), "PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def node_driver() -> Path:
    """A folder with the client's source and the packages its lock file pins, installed once and kept."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip("no node and npm on PATH")
    lock = (NODE / "package-lock.json").read_bytes()
    folder = ROOT / ".shardmart" / f"node-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in NODE.iterdir():
        shutil.copy(file, folder)
    if not (folder / "installed").exists():
        command = [npm, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefer-offline"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm could not install the driver: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "installed").touch()
    return folder


def test_the_node_driver_does_its_work(cluster: EmbeddedCluster, database: Any, node_driver: Path) -> None:
    script = [shutil.which("node") or "node", str(node_driver / "client.mjs")]
    assert run(cluster, script, DATABASE=database.name) == "ok\n"
    assert database.orders.count_documents({}) == 501


def test_mongosh_shows_the_cluster(cluster: EmbeddedCluster) -> None:
    installed = MONGOSH_FOLDER / "node_modules" / ".bin" / "mongosh"
    mongosh = shutil.which("mongosh") or (str(installed) if installed.exists() else None)
    if not mongosh:
        pytest.skip(f"no mongosh: {GET_MONGOSH}")  # 400 packages, a minute: too much for every run
    script = """
        db = connect(process.env.URI + "&appName=test");
        const status = sh.status().value;
        sh.shardCollection("mongosh.things", {_id: "hashed"});
        const things = db.getSiblingDB("mongosh").things;
        things.insertMany(Array.from({length: 50}, (_, i) => ({_id: i})));
        const counted = things.countDocuments({_id: {$gte: 10}});
        sh.stopBalancer(); sh.startBalancer();
        db.getSiblingDB("mongosh").dropDatabase();
        print(EJSON.stringify({counted, shards: status.shards.map((s) => s._id), balancing: sh.getBalancerState()}));
    """
    said = run(cluster, [mongosh, "--quiet", "--nodb", "--eval", script])
    assert '{"counted":40,"shards":["shard1ReplSet","shard2ReplSet"],"balancing":true}' in said
