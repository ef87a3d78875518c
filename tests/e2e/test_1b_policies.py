"""Who reaches whom with policies that are enforced, and who may do what from a server's own localhost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.support.kind_site import POLICIES, KindSite
from tests.support.strangers import reaches

needs_enforcement = pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")


def addresses(site: KindSite) -> tuple[str, str, str]:
    """Of the routers' Service, of a shard's member and of a config server."""
    domain = f"{site.name}.svc.cluster.local:27017"
    members = [f"{site.name}-{name}-1.{site.name}-{name}.{domain}" for name in ("shard1", "configsvr")]
    return f"{site.name}.{domain}", members[0], members[1]


@needs_enforcement
def test_pod_of_the_namespace_reaches_routers_and_one_of_another_nobody(site: KindSite) -> None:
    assert reaches(site, site.name, *addresses(site)) == [True, False, False]
    site.run("kubectl", "create", "namespace", "elsewhere")
    try:
        assert reaches(site, "elsewhere", *addresses(site)) == [False, False, False]
    finally:
        site.run("kubectl", "delete", "namespace", "elsewhere")


@needs_enforcement
def test_loader_works_whoever_the_clients_are(site: KindSite) -> None:
    """Nobody may connect but pods that there are not, and the Job still loads what is missing."""
    clients = [{"namespaceSelector": {"matchLabels": {"shop": "yes"}}}]
    values = json.dumps({"chart_values": {"networkPolicy": {"clients": clients}}, "seed_users": 12})
    played = site.play("site.yml", "-e", values)
    assert played.code == 0, played.output
    arguments = ("--seed=1", "--users=12", "--orders-per-user=3", "--products=20", "--check", "--json")
    found = json.loads(site.toolbox("shardmart", "load", "--state=/state", *arguments))["collections"]
    assert {name: about["missing"] for name, about in found.items()} == {"users": 0, "orders": 0, "products": 0}
    assert reaches(site, site.name, addresses(site)[0]) == [False]
    again = site.play("playbooks/provision.yml")
    assert again.code == 0, again.output
    assert reaches(site, site.name, addresses(site)[0]) == [True]


@contextmanager
def forwarded(site: KindSite, pod: str) -> Iterator[int]:
    """A port of this machine that leads to the pod's own localhost."""
    command = ["kubectl", f"--namespace={site.name}", "port-forward", f"pod/{pod}", ":27017"]
    with subprocess.Popen(command, env=dict(site.environment), stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout
            found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert found
            yield int(found[1])
        finally:
            forward.terminate()


def client_of(port: int) -> MongoClient[dict[str, Any]]:
    """Somebody who does not log in."""
    return MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=20_000)


@pytest.mark.parametrize("server", ["shard1-1", "shard2-3", "configsvr-1", "mongos-1"])
def test_nobody_becomes_a_user_by_a_forwarded_port(site: KindSite, server: str) -> None:
    with (
        forwarded(site, f"{site.name}-{server}") as port,
        client_of(port) as client,
    ):
        with pytest.raises(OperationFailure) as refused:
            client.admin.command("createUser", "intruder", pwd="x", roles=["root"])
        assert refused.value.code == 13
