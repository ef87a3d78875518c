"""The pins of ShardingSphere-Proxy: what Maven is asked for, and each file that comes with its SHA-256.

5.1.0 is the last version found whose bootstrap is a jar of its own (5.1.2, 5.2.1 and 5.5.2 have none).  Its licence and
that of most of what comes with it is Apache 2.0; Atomikos has several ("Atomikos Multiple Licensing Scheme"), MySQL's
driver has GPL 2.  Tests fetch and run them; this project gives none of them away.
To raise the version: as in `shardmart.platforms.embedded_kafka.pins`.
"""

from __future__ import annotations

from pathlib import Path

from shardmart.platforms.maven import Artifact, Lock

ARTIFACTS = [Artifact("org.apache.shardingsphere", "shardingsphere-proxy-bootstrap", "5.1.0")]
"""It brings PostgreSQL's driver, and Atomikos, which ends its transactions by XA."""
JARS = {
    name: digest
    for digest, name in (line.split() for line in Path(__file__).with_name("jars.sha256").read_text().splitlines())
}
"""SHA-256 by name, as `sha256sum *.jar` says."""
LOCK = Lock("ShardingSphere", ARTIFACTS, JARS)
FETCH_SECONDS = 900
JAVA_VERSION = 8
