"""The shop's release on a kind cluster, as end-to-end tests ask for it."""

from __future__ import annotations

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
