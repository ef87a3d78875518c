"""PyMongo's own tests, run against the router: `make driver-suite`.

    python -m tests.support.driver_suite [--only EXPRESSION]

They come with the source archive of the pinned version; pip fetches it and compares its hash with the lock file's (and
takes, for a look at its metadata, the archive's build tool).  A cluster of its own is started (two shards of one
member) and ended.  Prints what failed and why it may; exit code 1 for a failure that is in neither table below.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from tests.support.clusters import ROOT, EmbeddedCluster, embedded_cluster

USER = "suite"
LEFT_OUT = (
    "asynchronous", "atlas", "auth_aws", "auth_oidc", "lambda", "mockupdb", "mod_wsgi_test", "performance",
    "test_auth_oidc.py", "test_bson_corpus.py", "test_dns.py", "test_encryption.py", "test_kms_connect.py",
    "test_kms_connect_prose.py", "test_on_demand_csfle.py", "test_srv_polling.py", "test_ssl.py", "test_typing.py",
)  # fmt: skip
"""Folders and files about other services, about bytes alone, or (asynchronous) the same tests once more."""
OF_THE_ROUTER = {
    "*listLocalSessions*": "$listLocalSessions is refused",
    "*aggregate_on_database*": "the same stage",
    "*::test_database_aggregation": "the same stage",
    "*::test_implicit_sessions_checkout": "the same stage",
    "*::test_validate_collection_background": "fsync is not served",
    "*::test_rtt_connection_is_enabled_stream": "hello without topologyVersion: drivers poll",
    "*::test_connect_with_serverMonitoringMode=*": "the same",
}
"""What a mongos would pass and the router does not, with the reason."""
OF_THE_MACHINE = {
    "*Search*": "needs an Atlas search index",
    "*::test_handshake_*": "asks for no container around it",
    "*::test_*metadata*": "the same",
    "test/test_client_metadata.py::*": "needs the package mockupdb",
    "*::*SRV*": "needs dnspython",
    "*srv*": "the same",
    "*::test_connection_timeout_ms_propagates_to_DNS_resolver": "the same",
    "test/test_sfp.py::*": "needs an Atlas account",
    "*::test_auth_from_uri": "makes a user that is the cluster's administrator",
    "*::test_uri_options": "the same",
    "test/test_ocsp_support.py::*": "needs certificates of servers",
    "*::test_service_name_from_kwargs": "needs dnspython",
    "*::test_Topology_lifecycle": "needs two routers",
    "*::test_exhaust_cursor": "a mongos of 6.0 has none either",
    "*::test_read_preference_hedge_deprecated": "fails with any server: a warning that is given only once",
    "*::test_transaction_starts_with_batched_write": "needs a larger cache than 256 MB",
}
"""What fails here whatever is asked."""


def fetch(folder: Path) -> Path:
    """The unpacked archive of the pinned PyMongo."""
    lock = re.search(r"^pymongo==.*?(?=^\S)", (ROOT / "requirements.lock").read_text(), re.MULTILINE | re.DOTALL)
    assert lock, "requirements.lock pins no pymongo"
    (folder / "pymongo.txt").write_text(lock[0].rsplit("    #", 1)[0])
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--require-hashes"]
    subprocess.run(
        [*pip, "--no-deps", "--no-binary", ":all:", "-r", folder / "pymongo.txt", "-d", folder],
        check=True,
    )  # fmt: skip
    with tarfile.open(next(folder.glob("pymongo-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.glob("pymongo-*/") if path.is_dir())


def run(cluster: EmbeddedCluster, source: Path, only: str | None) -> dict[str, str]:
    """Test → outcome (passed, skipped, failed)."""
    password = "".join(f"{byte:02x}" for byte in os.urandom(16))
    with cluster.client() as client:
        client.admin.command("createUser", USER, pwd=password, roles=["root"])
    port = cluster.description.routers[0].port
    markers = sorted(set(re.findall(r"^    \"(\w+):", (source / "pyproject.toml").read_text(), re.MULTILINE)))
    (source / "pytest.ini").write_text("\n  ".join(["[pytest]\ntimeout = 120\nmarkers =", *markers, ""]))
    for package in ("bson", "pymongo", "gridfs"):  # the installed ones are tested
        (source / package).rename(source / f"{package}-of-the-archive")
    report = source / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "--tb=line"]
    command += ["-c", "pytest.ini", "--rootdir", ".", f"--junitxml={report}", "-o", "junit_family=xunit1", "test"]
    command += [word for name in LEFT_OUT for word in ("--ignore", f"test/{name}")]
    environment = os.environ | {"DB_IP": "127.0.0.1", "DB_PORT": str(port), "DB_USER": USER, "DB_PASSWORD": password}
    subprocess.run([*command, *(["-k", only] if only else [])], cwd=source, env=environment, check=False)
    return {
        f"{case.get('file')}::{str(case.get('classname')).rpartition('.')[2]}::{case.get('name')}": next(
            (kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed"
        )
        for case in ElementTree.parse(report).iter("testcase")
    }


def reason(test: str) -> str | None:
    """Why a test may fail; None when it may not."""
    for table, who in ((OF_THE_ROUTER, "the router"), (OF_THE_MACHINE, "this machine")):
        for pattern, why in table.items():
            if fnmatch.fnmatchcase(test, pattern):
                return f"{who}: {why}"
    return None


def main() -> int:
    """Fetch, run, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="an expression of pytest's -k")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded_cluster(Path(folder) / "state") as cluster:
        outcomes = run(cluster, fetch(Path(folder)), options.only)
    failed = {test: reason(test) for test, outcome in outcomes.items() if outcome in ("failure", "error")}
    for test, why in sorted(failed.items(), key=lambda one: (str(one[1]), one[0])):
        print(f"{test}: {why or 'NOT EXPECTED'}")
    counts = Counter(outcomes.values())
    unexpected = [test for test, why in failed.items() if why is None]
    of_the_router = sum(1 for why in failed.values() if why and why.startswith("the router"))
    print(
        f"{counts['passed']} passed, {counts['skipped']} skipped, {len(failed)} failed: {of_the_router} for the router,"
        f" {len(failed) - of_the_router - len(unexpected)} for this machine, {len(unexpected)} not expected"
    )
    return 1 if unexpected or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
