"""Which certificates the shop's servers in pods show, and a renewal by the CronJob while the ledger places orders."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cryptography import x509

from shardmart.libpq import SSL_REQUEST
from tests.support.kind_site import KindSite
from tests.support.shop_in_pods import ours, release_of

PORTS = {"cache": 6379, "postgres": 5432, "kafka": 9092}
BROKERS = 3
JOURNAL = "/tmp/renewal"
ORDERS_BETWEEN = 5
"""So many operations are acknowledged before a renewal, and as many after it."""
SHOWN = """
import json, socket, ssl, sys
found = {}
for name, (host, port, authority, request) in json.load(sys.stdin).items():
    context = ssl.create_default_context(cadata=authority)
    with socket.create_connection((host, port), timeout=10) as plain:
        if request:
            plain.sendall(bytes.fromhex(request))
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=host) as spoken:
            found[name] = int(spoken.getpeercert()["serialNumber"], 16)
print(json.dumps(found))
"""
ACKNOWLEDGED = """
import sys
from pathlib import Path
from shardmart.ledger.metrics import read_windows
print(sum(window.ok for window in read_windows(Path(sys.argv[1]))))
"""


def secret(site: KindSite, part: str) -> dict[str, bytes]:
    """What lies in the Secret of a part's certificate."""
    found = json.loads(site.kubectl("get", "secret", f"{release_of(site)}-{part}-tls", "-o", "json"))["data"]
    return {key: base64.b64decode(value) for key, value in found.items()}


def serial_numbers_made(site: KindSite, parts: Iterable[str]) -> dict[str, int]:
    """The serial number of the certificate in each part's Secret."""
    return {part: x509.load_pem_x509_certificate(secret(site, part)["tls.crt"]).serial_number for part in parts}


def serial_numbers_served(site: KindSite, parts: Iterable[str]) -> dict[str, dict[str, int]]:
    """Part → server → what it shows the toolbox, which checks it by the authority of the Secret."""
    asked: dict[str, list[Any]] = {}
    of: dict[str, str] = {}
    for part in parts:
        name, authority = f"{release_of(site)}-{part}", secret(site, part)["ca.crt"].decode()
        domain = f"{name}.{site.name}.svc.cluster.local"
        hosts = [f"{name}-{n}.{domain}" for n in range(1, BROKERS + 1)] if part == "kafka" else [domain]
        for host in hosts:
            of[host] = part
            asked[host] = [host, PORTS[part], authority, SSL_REQUEST.hex() if part == "postgres" else ""]
    shown = json.loads(site.toolbox("python3", "-c", SHOWN, text=json.dumps(asked)))
    return {part: {host: shown[host] for host in shown if of[host] == part} for part in of.values()}


def begun(site: KindSite) -> dict[str, tuple[str, list[int]]]:
    """Every pod of the shop that runs: its uid, and how often its containers were restarted."""
    found = [pod for pod in site.get("pods", ours(site)) if pod["status"]["phase"] == "Running"]
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            [container["restartCount"] for container in pod["status"]["containerStatuses"]],
        )
        for pod in found
    }


@contextmanager
def ordering(site: KindSite, journal: str) -> Iterator[None]:
    """Orders from the toolbox while the block runs; AssertionError where one is lost, or none was placed in it."""
    run = ("shardmart", "ledger", "run", "--workload=shop", f"--journal={journal}", "--state=/state", "--json")
    words = ("--clients=2", "--rate=4", "--duration=1500", "--operation-timeout=60", "--until-input-ends")

    def acknowledged() -> int:
        assert writer.poll() is None, f"the ledger ended: {writer.communicate()}"
        return int(site.toolbox("python3", "-c", ACKNOWLEDGED, journal))

    with subprocess.Popen(
        ["kubectl", f"--namespace={site.name}", "exec", "-i", f"deploy/{site.name}-toolbox", "--", *run, *words],
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        try:
            site.wait("the first orders", lambda: acknowledged() >= ORDERS_BETWEEN)
            before = acknowledged()
            yield
            after = acknowledged()
            assert after > before, "orders were placed meanwhile"
            site.wait("orders after it", lambda: acknowledged() >= after + ORDERS_BETWEEN)
        finally:
            told, said = writer.communicate("", timeout=180)
    assert writer.returncode == 0, said
    verdict = json.loads(
        site.toolbox("shardmart", "ledger", "check", journal, "--state=/state", "--json", accept=(0, 1))
    )
    assert verdict["clean"], verdict
    print(f"\n{journal}: {told.strip()}; {verdict['operations']}")


def renew(site: KindSite, name: str) -> None:
    """Run the shop's CronJob now, as if every certificate ended soon, to its end."""
    cronjob = f"--from=cronjob/{release_of(site)}-rotation"
    job = json.loads(site.kubectl("create", "job", name, cronjob, "--dry-run=client", "-o", "json"))
    for container in job["spec"]["template"]["spec"]["initContainers"]:
        (validity,) = [word.partition("=")[2] for word in container["args"] if word.startswith("--validity-days=")]
        kept = [word for word in container["args"] if not word.startswith("--renew-days=")]
        container["args"] = [*kept, f"--renew-days={validity}"]
    site.kubectl("apply", "-f", "-", text=json.dumps(job))

    def ended() -> str:
        conditions = json.loads(site.kubectl("get", "job", name, "-o", "json")).get("status", {}).get("conditions", [])
        return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), "")

    how = site.wait(f"the Job {name} to end", ended, seconds=900)
    said = site.kubectl("logs", f"job/{name}", "--all-containers", accept=(0, 1))
    assert how == "Complete", said
    print(said)
    site.kubectl("delete", "job", name)


def must_renew_while_ordering(site: KindSite, *parts: str) -> None:
    """Every server of these parts shows a new certificate of the same authority afterwards, and no order is lost.

    Brokers of Kafka are restarted for it, one after the other, and no other pod is.
    """
    made, authorities = serial_numbers_made(site, parts), {part: secret(site, part)["ca.crt"] for part in parts}
    served, pods = serial_numbers_served(site, parts), begun(site)
    assert {part: set(shown.values()) for part, shown in served.items()} == {part: {made[part]} for part in parts}
    with ordering(site, f"{JOURNAL}-{'-'.join(parts)}"):
        renew(site, f"renew-{'-'.join(parts)}")
    renewed = serial_numbers_made(site, parts)
    assert [part for part in parts if renewed[part] == made[part]] == []
    assert {part: secret(site, part)["ca.crt"] for part in parts} == authorities
    served = serial_numbers_served(site, parts)
    assert {part: set(shown.values()) for part, shown in served.items()} == {part: {renewed[part]} for part in parts}
    now = begun(site)
    brokers = {name for name in pods if name.startswith(f"{release_of(site)}-kafka-")}
    assert {name for name in pods if now[name] != pods[name]} == brokers
    assert len(brokers) == (BROKERS if "kafka" in parts else 0)
    found = site.get("pods", f"{ours(site)},app.kubernetes.io/component=kafka")
    in_order = sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    for earlier, later in itertools.pairwise(in_order):
        assert ready_since(earlier) <= later["metadata"]["creationTimestamp"], "it was ready before the next began anew"


def ready_since(pod: dict[str, Any]) -> str:
    """When a pod became ready: an ISO 8601 time of Kubernetes, whole seconds."""
    times = [one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready"]
    return str(times[0])
