"""TLS on pods, with the certificate made inside the cluster (issuer "own").

A cluster of its own, five minutes; the shops and fragments beside it half an hour more.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmart.platforms.maven import MissingError
from tests.support import postgres_tls_image
from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
from tests.support.kind_site import KindSite
from tests.support.plays import Played
from tests.support.pod_certificates import BROKERS, must_renew_while_ordering
from tests.support.shop_in_pods import must_confirm_an_order, ours

NAME = "shardmart-tls"
MADE_BY_THE_CHART = ("-e", "chart_tls_issuer=chart", "-e", json.dumps({"chart_values": {"tls": {"issuer": "own"}}}))
CERTIFICATE_DAYS = 90

ADDRESSES = """
import json
from pathlib import Path
from shardmart.cluster.protocol.connection import Tls, answers_without_tls
from shardmart.cluster.converge.rotation import served
from shardmart.platforms.state import State
found = {}
for node in State(Path("/state")).description().nodes:
    address = node.address
    about = {"plaintext": answers_without_tls(address), "serves": served(address, Tls("/state/tls/ca.pem"))}
    found[node.name] = about
print(json.dumps(found))
"""

WRITER = """
import json, sys, threading, time
from pathlib import Path
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError
from shardmart.platforms.state import State
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
uri, written, errors = State(Path("/state")).uri("admin"), 0, []
print("writing", flush=True)
while not over.is_set():
    client = MongoClient(uri)  # a new handshake each time: an open connection would not notice
    try:
        acknowledged = WriteConcern("majority")
        client.renewal.get_collection("writes", write_concern=acknowledged).insert_one({"_id": written})
        written += 1
    except PyMongoError as error:
        errors.append(str(error)[:200])
    client.close()
found = MongoClient(uri).renewal.writes.count_documents({})
print(json.dumps({"written": written, "found": found, "errors": errors}), flush=True)
"""

NODES = '''
import json, psycopg
from shardmart.fragments import configuration
from shardmart.fragments.connection import administrator, rows
stores, found = configuration.find(), {}
for node in stores.nodes:
    with administrator(stores, node) as connection:
        query = """SELECT backend_type, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE client_addr IS NOT NULL"""
        found[node.name] = {"connections": rows(connection, query)}
    try:
        psycopg.connect(host=node.host, port=node.port, user="postgres", password="x", sslmode="disable")
    except psycopg.OperationalError as error:
        found[node.name]["plaintext"] = str(error)
print(json.dumps(found))
'''

SHOP = """
import json, socket
import psycopg
from pathlib import Path
from shardmart.platforms.state import State
shop = State(Path("/state")).description().shop
found = {}
try:
    psycopg.connect(host=shop.postgres.host, port=shop.postgres.port, user="postgres", password="x", sslmode="disable")
except psycopg.OperationalError as error:
    found["store"] = str(error)
with socket.create_connection((shop.cache.host, shop.cache.port), timeout=10) as plain:
    plain.sendall(b"PING\\r\\n")
    try:
        found["cache"] = plain.recv(100).hex()
    except ConnectionResetError:
        found["cache"] = ""
print(json.dumps(found))
"""

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif("SHARDMART_E2E_TLS" not in os.environ, reason="takes five minutes: set SHARDMART_E2E_TLS=1"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindSite]:
    """One config server, a shard of three members, a router; TLS required of everybody."""
    document = {
        "config_servers": {"name": "configReplSet", "member_name": "configsvr{n}", "members": 1},
        "shards": [
            {"name": "shard1ReplSet", "member_name": "shard1-{n}", "members": 3, "zones": ["APJ", "EMEA", "LATAM"]}
        ],
        "tls": {"mode": "requireTLS", "validity_days": CERTIFICATE_DAYS},
    }
    site = KindSite(tmp_path_factory.mktemp("tls"), NAME, **document)
    site.destroy()
    try:
        site.enforce_policies()
        made = site.play("site.yml", *MADE_BY_THE_CHART)
        assert made.code == 0, made.output
        yield site
    finally:
        site.destroy()


def servers(site: KindSite) -> dict[str, dict[str, Any]]:
    """Of every server: does it answer plaintext, and which certificate does it serve (verified)?"""
    found: dict[str, dict[str, Any]] = json.loads(site.toolbox("python3", "-", text=ADDRESSES))
    return found


def test_every_server_speaks_tls_only_and_serves_one_certificate(site: KindSite) -> None:
    found = servers(site)
    assert set(found) == {"configsvr1", "shard1-1", "shard1-2", "shard1-3", "mongos1"}
    assert not [name for name, about in found.items() if about["plaintext"]]
    assert len({about["serves"] for about in found.values()}) == 1
    assert json.loads(site.toolbox("shardmart", "status", "--json"))["problems"] == []
    site.assert_data_complete()


def test_second_run_changes_nothing(site: KindSite) -> None:
    again = site.play("site.yml", *MADE_BY_THE_CHART)
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output


def test_certificate_that_is_due_is_renewed_without_a_restart_or_a_failed_write(site: KindSite) -> None:
    before, pods = (
        servers(site),
        site.get("pods", "--selector=app.kubernetes.io/component in (config-server,shard,router)"),
    )
    job = json.loads(
        site.kubectl("create", "job", "renew", f"--from=cronjob/{NAME}-rotation", "--dry-run=client", "-o", "json")
    )
    renew = job["spec"]["template"]["spec"]["initContainers"][0]
    renew["args"] = [a for a in renew["args"] if not a.startswith("--renew-days")] + [
        f"--renew-days={CERTIFICATE_DAYS}"
    ]
    writer = subprocess.Popen(
        ["kubectl", f"--namespace={NAME}", "exec", "-i", f"deploy/{NAME}-toolbox", "--", "python3", "-c", WRITER],
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    assert writer.stdout.readline() == "writing\n"
    site.kubectl("apply", "-f", "-", text=json.dumps(job))
    site.kubectl("wait", "job/renew", "--for=condition=Complete", "--timeout=600s")
    told, _ = writer.communicate("", timeout=60)
    wrote = json.loads(told)
    assert wrote["errors"] == []
    assert wrote["found"] == wrote["written"] > 0
    after = servers(site)
    assert len({about["serves"] for about in after.values()}) == 1
    assert {about["serves"] for about in after.values()}.isdisjoint(about["serves"] for about in before.values())
    for pod in pods:
        now = json.loads(site.kubectl("get", "pod", pod["metadata"]["name"], "-o", "json"))
        assert now["metadata"]["uid"] == pod["metadata"]["uid"]
        assert [c["restartCount"] for c in now["status"]["containerStatuses"]] == [
            c["restartCount"] for c in pod["status"]["containerStatuses"]
        ]


def without_a_shop(site: KindSite) -> Played:
    """Have it leave, with its volumes and Secrets."""
    del site.document["services"], site.document["backends"]
    site.write()
    removed = site.play("site.yml", *MADE_BY_THE_CHART)
    site.kubectl("delete", "pvc,secret", ours(site))
    return removed


@pytest.mark.timeout(2400)
def test_shop_beside_it_speaks_tls_only_to_its_store_and_its_cache(site: KindSite) -> None:
    site.write(services={}, backends={"carts": "mongodb", "store": "postgres", "catalogue": "postgres"})
    try:
        site.must_converge("site.yml", *MADE_BY_THE_CHART)
        must_confirm_an_order(site)
        assert json.loads(site.toolbox("shardmart", "status", "--json"))["problems"] == []
        plain = json.loads(site.toolbox("python3", "-", text=SHOP))
        assert "no encryption" in plain["store"]
        assert not bytes.fromhex(plain["cache"]).startswith((b"+", b"-")), plain
        must_renew_while_ordering(site, "cache", "postgres")
        must_confirm_an_order(site)
    finally:
        removed = without_a_shop(site)
    assert removed.code == 0, removed.output


@pytest.mark.timeout(2400)
def test_shop_on_kafka_beside_it_takes_a_renewed_certificate_broker_after_broker(site: KindSite) -> None:
    site.write(services={}, backends={"carts": "mongodb", "event_log": "kafka", "kafka_brokers": BROKERS})
    try:
        site.must_converge("site.yml", *MADE_BY_THE_CHART)
        must_confirm_an_order(site)
        must_renew_while_ordering(site, "cache", "kafka")
        must_confirm_an_order(site)
        # Not with the shop above, whose merged catalogue could only say that it does not know the stock.
        site.run("shardmart", "chaos", "run", "chaos/kill-cache.json")
        assert_no_order_was_lost(summary_of_last_run(site.state))
    finally:
        removed = without_a_shop(site)
    assert removed.code == 0, removed.output


def fragments(site: KindSite, *words: str) -> Any:
    """What `shardmart fragments` says on this machine, which has no way to the nodes."""
    return json.loads(site.run("shardmart", "fragments", *words, accept=(0, 1)))


@pytest.mark.timeout(1800)
def test_fragments_beside_it_speak_tls_only_and_a_second_run_changes_nothing(site: KindSite, tmp_path: Path) -> None:
    try:
        image = postgres_tls_image.loaded(site, tmp_path / "image")
    except MissingError as error:
        pytest.skip(str(error))
    given = json.dumps({"fragments_chart_image": image})
    site.must_converge("playbooks/fragments.yml", *MADE_BY_THE_CHART, "-e", given)
    facts = fragments(site, "status", "--json")
    assert facts["problems"] == []
    found = json.loads(site.kubectl("exec", f"deploy/{NAME}-fragments-repair", "--", "python3", "-c", NODES))
    assert set(found) == {"APJ", "EMEA", "LATAM"}
    for about in found.values():
        assert "no encryption" in about["plaintext"]
        assert {encrypted for _, encrypted in about["connections"]} == {True}
        assert [kind for kind, _ in about["connections"]].count("walsender") == 2, "both peers are told"
    between = ("crud", "products-between", "10.00", "501.00")
    assert fragments(site, *between, "--store=mongodb") == fragments(site, *between, "--store=postgres") != []
