"""The shop's release on a kind cluster, as end-to-end tests ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.kind_site import KindSite


def release_of(site: KindSite) -> str:
    """The name of the release."""
    return f"{site.name}-shop"


def ours(site: KindSite) -> str:
    """The selector of its objects."""
    return f"--selector=app.kubernetes.io/instance={release_of(site)}"


def must_confirm_an_order(site: KindSite) -> None:
    """`helm test` places an order, and it is confirmed and its customer is told."""
    said = site.run("helm", "test", release_of(site), "--namespace", site.name, "--logs", "--timeout=5m")
    steps = [line.split()[0] for line in said.splitlines() if line.startswith(("placed", "confirmed", "notified"))]
    assert steps == ["placed", "confirmed", "notified"], said


@contextmanager
def a_shop(site: KindSite, backends: dict[str, Any], *, removed_by: str = "site.yml") -> Iterator[KindSite]:
    """The site's cluster with a shop on these backends, made from nothing by site.yml; `removed_by` takes it away."""
    site.write(services={}, backends=backends)
    checked = site.play("site.yml", "--check")
    assert checked.code == 0, f"--check before the shop is there\n{checked.output}"
    assert not site.get("deployment,statefulset,service,secret", ours(site))
    site.must_play("site.yml")
    yield site
    del site.document["services"], site.document["backends"]
    site.write()
    removed = site.play(removed_by)
    assert removed.code == 0, removed.output
    assert not site.get("deployment,statefulset,service,cronjob", ours(site))
