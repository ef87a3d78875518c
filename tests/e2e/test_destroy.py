"""destroy.yml removes what site.yml made and nothing else. These tests come last: they end the session's cluster."""

from __future__ import annotations

from tests.support.kind_site import KindSite


def test_destroy_keeps_the_data_and_what_others_made(site: KindSite) -> None:
    site.kubectl("create", "configmap", "somebody-elses", "--from-literal=a=b")
    volumes = {claim["metadata"]["uid"] for claim in site.get("pvc")}
    secret = site.kubectl("get", "secret", f"{site.name}-auth", "-o", "jsonpath={.data}")
    stopped = site.play("playbooks/destroy.yml")
    assert stopped.code == 0, stopped.output
    assert not site.get("statefulset,deployment")
    assert {claim["metadata"]["uid"] for claim in site.get("pvc")} == volumes
    assert site.kubectl("get", "secret", f"{site.name}-auth", "-o", "jsonpath={.data}") == secret
    assert site.kubectl("get", "configmap", "somebody-elses", "-o", "name")


def test_destroy_with_data_removes_its_cluster_and_no_other(site: KindSite) -> None:
    before = set(site.run("kind", "get", "clusters").split())
    containers = set(site.run("docker", "ps", "--all", "--quiet").split())
    ours = set(site.run("docker", "ps", "--all", "--quiet", f"--filter=name={site.name}").split())
    (site.state / "mine.txt").write_text("not made by site.yml")
    destroyed = site.play("playbooks/destroy.yml", "-e", "destroy_data=true")
    assert destroyed.code == 0, destroyed.output
    assert before - set(site.run("kind", "get", "clusters").split()) == {site.name}
    assert set(site.run("docker", "ps", "--all", "--quiet").split()) >= containers - ours
    # Reports of experiments are what chaos made, and stay; nothing of site.yml's does.
    assert {file.name for file in site.state.iterdir()} - {"chaos"} == {"mine.txt"}
    for arguments in ((), ("-e", "destroy_data=true")):
        again = site.play("playbooks/destroy.yml", *arguments)
        assert again.code == 0, again.output
        assert set(again.changed.values()) == {0}, again.output
