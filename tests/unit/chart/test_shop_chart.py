"""Claims of helm/shop: services accept the settings it makes, hold their own secrets, and are where others look."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import Cluster
from shardmart.declare import access, chart, release, ring_chart, shop_chart, topology
from shardmart.declare.release import Release
from shardmart.errors import BadUseError
from shardmart.platforms.embedded_shop import configuration
from shardmart.shop import settings

ROOT = Path(__file__).parents[3]
TOPOLOGY = ROOT / "inventories" / "topologies" / "shop.yml"
PASSWORDS = access.load("ecommerce", shop=True).as_variable("ecommerce")["passwords"]
NAMESPACE = "shopping"
OF_THE_RING = {"ring/ring.password", "ring/ca.crt"}
SERVICES = ("catalogue", "order", "inventory", "payment", "notification", "provider", "console")


def described(declared: topology.Topology, cluster: str) -> Cluster:
    place = Release(cluster, NAMESPACE, cluster)
    return release.describe(chart.document(chart.chart_values(declared), place))


def rendered(tmp_path: Path, values: dict[str, Any], name: str = "store-shop") -> list[dict[str, Any]]:
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    (tmp_path / "values.json").write_text(json.dumps(values))
    command = ["helm", "template", name, "helm/shop", f"--namespace={NAMESPACE}", f"--values={tmp_path}/values.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def shop_objects(tmp_path: Path, **more: Any) -> list[dict[str, Any]]:
    return rendered(tmp_path, shop_chart.shop_values(topology.load(TOPOLOGY), "store") | more)


def files(objects: list[dict[str, Any]]) -> dict[str, str]:
    """The settings file of each service, as the chart wrote it."""
    (found,) = [o for o in objects if o["kind"] == "ConfigMap" and "order.json" in o["data"]]
    return {name.removesuffix(".json"): text for name, text in found["data"].items()}


def pod_of(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    (found,) = [
        o for o in objects
        if o["kind"] in ("Deployment", "StatefulSet") and o["metadata"]["name"] == f"store-shop-{component}"
    ]  # fmt: skip
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def mounted(pod: dict[str, Any]) -> set[str]:
    """Names of the secrets that a pod has in its files."""
    sources = [s for v in pod["volumes"] for s in v.get("projected", {}).get("sources", [])]
    return {item["path"].removeprefix("secrets/") for s in sources if "secret" in s for item in s["secret"]["items"]}


def accepted(tmp_path: Path, text: str, secrets: set[str]) -> settings.Settings:
    """The settings as an instance reads them that holds these secrets."""
    document = json.loads(text)
    folder = tmp_path / "secrets"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in secrets - OF_THE_RING:
        (folder / name).write_text(f"of/{name}@".ljust(40, "x") + "\n")
        (folder / name).chmod(0o440)
    assert document["secrets_folder"] == "/etc/shop/secrets"
    (tmp_path / "settings.json").write_text(json.dumps(document | {"secrets_folder": str(folder)}))
    return settings.load(tmp_path / "settings.json")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_accepts_the_settings_made_for_it_with_the_secrets_it_mounts(tmp_path: Path, service: str) -> None:
    objects = shop_objects(tmp_path)
    read = accepted(tmp_path, files(objects)[service], mounted(pod_of(objects, service)))
    assert (read.mongodb is not None) == (service in configuration.DATABASE_USERS)
    if read.mongodb:
        assert read.mongodb.uri.startswith(f"mongodb://shop-{service}:of%2Fshop-{service}.password%40xxx")
        (router,) = described(topology.load(TOPOLOGY), "store").routers
        assert f"@{router.address}/?" in read.mongodb.uri
    assert (read.cache == "redis") == (service in configuration.CACHE_READERS)


def test_each_service_holds_the_secrets_it_uses_and_no_others(tmp_path: Path) -> None:
    objects = shop_objects(tmp_path)
    assert {name: mounted(pod_of(objects, name)) for name in (*SERVICES, "cache")} == {
        "catalogue": {"shop-tokens.password", "shop-catalogue.password", "shop-cache.password"} | OF_THE_RING,
        "order": {"shop-tokens.password", "shop-order.password"} | OF_THE_RING,
        "inventory": {"shop-tokens.password", "shop-inventory.password", "shop-cache.password"},
        "payment": {"shop-tokens.password", "shop-payment.password", "shop-provider.password", "shop-webhook.password"},
        "notification": {"shop-tokens.password", "shop-notification.password", "shop-cache.password"},
        "provider": {"shop-tokens.password", "shop-provider.password", "shop-webhook.password"},
        "console": {"shop-tokens.password"},
        "cache": {"shop-cache.password"},
    }
    assert {name for pod in SERVICES for name in mounted(pod_of(objects, pod))} <= set(PASSWORDS) | OF_THE_RING


def test_services_are_where_the_cluster_describes_them(tmp_path: Path) -> None:
    shop = described(topology.load(TOPOLOGY), "store").shop
    assert shop is not None
    objects = shop_objects(tmp_path)
    served = {
        (f"{o['metadata']['name']}.{NAMESPACE}.svc.cluster.local", o["spec"]["ports"][0]["port"])
        for o in objects
        if o["kind"] == "Service" and o["spec"].get("clusterIP") != "None"
    }
    assert shop.cache is not None
    assert {(one.host, one.port) for one in (*shop.instances, shop.cache)} == served
    urls = json.loads(files(objects)["order"])["urls"]
    assert {(name, url) for name, url in shop.urls() if name in urls} == set(urls.items())


def test_without_a_cache_nobody_looks_for_one(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
    declared = topology.parse(document | {"services": {}, "backends": {"cache": "memory"}}, "test")
    objects = rendered(tmp_path, shop_chart.shop_values(declared, "store"))
    assert [o for o in objects if o["metadata"]["name"].endswith("-cache")] == []
    assert [name for name, text in files(objects).items() if "redis" in text] == []
    shop = described(declared, "store").shop
    assert shop is not None
    assert shop.cache is None


def test_carts_lie_on_the_release_of_the_topologys_ring_unless_it_says_otherwise(tmp_path: Path) -> None:
    declared = topology.load(TOPOLOGY)
    assert [ring.name for ring in declared.rings] == ["carts"]
    assert ring_chart.as_variable(declared.rings[0], "store", "cluster.local", tls=False)["release"] == "store-carts"
    objects = shop_objects(tmp_path)
    assert mounted(pod_of(objects, "order")) >= OF_THE_RING
    assert json.loads(files(objects)["order"])["ring_settings"] == "/etc/shop/ring/settings.json"
    assert "ring_settings" not in files(objects)["payment"]

    document = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())
    elsewhere = topology.parse(document | {"services": {}, "backends": {"carts": "mongodb"}}, "test")
    assert "ring_settings" not in files(rendered(tmp_path, shop_chart.shop_values(elsewhere, "store")))["order"]


def test_the_user_of_the_cache_may_do_what_the_embedded_one_may(tmp_path: Path) -> None:
    shop = topology.load(TOPOLOGY).resolve().shop
    assert shop is not None
    assert shop.cache is not None
    for name in PASSWORDS:
        (tmp_path / name).write_text("PASSWORD")
    embedded = configuration.cache_configuration(shop.cache, shop, configuration.Secrets(tmp_path), tmp_path)
    (line,) = [line for line in embedded.splitlines() if line.startswith("user shop ")]
    script = (ROOT / "helm" / "shop" / "files" / "start-cache.sh").read_text()
    assert f"'{line.replace('PASSWORD', '%s')}\\n'" in script


def test_with_tls_services_know_the_clusters_authority(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "inventories" / "topologies" / "tls.yml").read_text())
    declared = topology.parse(document | {"services": {}}, "test")
    objects = rendered(tmp_path, shop_chart.shop_values(declared, "store"))
    pod = pod_of(objects, "order")
    assert "tls/ca.pem" in mounted(pod)
    assert "&tls=true&tlsCAFile=/etc/shop/tls/ca.pem" in json.loads(files(objects)["order"])["mongodb"]["uri"]


def test_a_topology_without_services_has_no_shop() -> None:
    declared = topology.load(ROOT / "inventories" / "topology.yml")
    assert "shop" not in chart.chart_values(declared)
    with pytest.raises(topology.TopologyError, match="services: this topology has none"):
        shop_chart.shop_values(declared, "store")


def test_a_secret_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"secrets_folder": str(tmp_path), "tokens": {"keys": ["{secret:shop-tokens}"]}}))
    with pytest.raises(BadUseError, match=r"cannot read the secret .*shop-tokens.password: No such file"):
        settings.load(file)
    secret = tmp_path / "shop-tokens.password"
    secret.write_text("k" * 40)
    secret.chmod(0o444)
    with pytest.raises(BadUseError, match="is a secret and everybody may read it"):
        settings.load(file)
    secret.chmod(0o440)
    assert settings.load(file).tokens.keys == ("k" * 40,)


def test_the_chart_takes_what_is_sized_for_a_laptop(tmp_path: Path) -> None:
    values = shop_chart.sized_for_a_laptop(shop_chart.shop_values(topology.load(TOPOLOGY), "store"))
    objects = rendered(tmp_path, values)
    (console,) = [o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == "store-shop-console"]
    assert console["spec"]["replicas"] == 1
    pod = pod_of(objects, "order")
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["containers"][0]["readinessProbe"]["failureThreshold"] == 10
    assert pod["containers"][0]["resources"] == {
        "limits": {"memory": "256Mi"},
        "requests": {"cpu": "10m", "memory": "64Mi"},
    }
