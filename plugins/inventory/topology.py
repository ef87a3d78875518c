"""Inventory plugin: one topology file becomes hosts, groups, ports and member names."""

from __future__ import annotations

DOCUMENTATION = r"""
name: topology
short_description: Turn Shardmart's topology file into hosts and groups
description:
  - Reads the one topology file, refuses a wrong one by the key that is wrong, and makes a host of every member and
    router, a group of every replica set, and the groups C(config_servers), C(shards), C(routers), C(members) and
    C(set_leaders) (the first member of each set, on which a set is formed).
  - C(controller) is this machine; C(toolbox) is where the database modules run.
  - The whole cluster is the variable C(cluster), the data model is C(data_model), C(access) says which users there are
    and who holds their passwords; the pins of versions.yml are C(mongodb_version), C(mongodb_tarball), C(mongodb_wheel)
    and C(image_pins), the rings are C(rings).
options:
  plugin: {description: Must be C(topology)., required: true, choices: [topology]}
  platform: {description: What the members are., choices: [embedded, kubernetes], default: embedded}
  topology:
    description: The topology file, relative to this inventory. C(-e topology=FILE) takes its place.
    default: ../topology.yml
  release: {description: "kubernetes: the Helm release; default is the topology's name."}
  namespace: {description: "kubernetes: the namespace; default is the topology's name."}
  cluster_domain: {description: "kubernetes: DNS domain of the Kubernetes cluster.", default: cluster.local}
  cluster:
    description: >-
      kubernetes: which cluster the pods run on. C(kind) is a throw-away one that this project makes and removes, with
      its kubeconfig in the state folder; C(given) is one that is there, never made and never removed.
    choices: [kind, given]
    default: kind
  kubeconfig:
    description: >-
      kubernetes: the file that reaches a given cluster, relative to this inventory; C(-e kubernetes_kubeconfig=FILE)
      takes its place. No other is used, whatever KUBECONFIG, K8S_AUTH_* or HELM_KUBE* say.
  context:
    description: >-
      kubernetes: the context of that file; C(-e kubernetes_context=NAME) takes its place. It has to be said, the file's
      current one is not taken.
  in_cluster:
    description: >-
      kubernetes: Ansible itself runs in a pod of the chart. The cluster is the one that the state folder describes, and
      every task runs here.
    type: bool
    default: false
author: Shardmart
"""

import os
import sys
from pathlib import Path

import yaml
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import load_extra_vars

from shardmart.cluster.description import DescriptionError
from shardmart.declare import (
    access,
    chart,
    data_model,
    fragments_chart,
    release,
    ring_chart,
    shop_chart,
    topology,
    versions,
)
from shardmart.platforms.kubernetes import CONTAINER, TOOLBOX_STATE, names_another
from shardmart.platforms.state import State, StateError

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLBOX_CHECKOUT = "/opt/shardmart"
"""Where the toolbox image has this project's code (k8s/images/toolbox/Dockerfile)."""


class InventoryModule(BaseInventoryPlugin):
    """Hosts and groups from a topology file."""

    NAME = "topology"

    def verify_file(self, path):
        """Take files named shardmart.yml."""
        return super().verify_file(path) and Path(path).name == "shardmart.yml"

    def parse(self, inventory, loader, path, cache=True):
        """Fill `inventory`; a wrong topology ends Ansible with the line that says why."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self._folder = Path(path).parent
        try:
            if self.get_option("in_cluster"):
                self._populate(self._state().description(), certificate="server.crt")
                return
            extra = load_extra_vars(loader)
            file = Path(extra["topology"]) if "topology" in extra else self._folder / self.get_option("topology")
            declared = topology.load(file.resolve())
            self._extra = extra
            {"embedded": self._embedded, "kubernetes": self._kubernetes}[self.get_option("platform")](declared)
            self._set("all", {"shop_carts": declared.carts()})
            self._set("all", versions.load().as_variables(declared.mongodb.version))
        except (topology.TopologyError, StateError, DescriptionError) as error:
            # An exception would be shown three times over and hide the line that matters (ansible-core 2.19).
            self.display.error(str(error), wrap_text=False)
            raise SystemExit(AnsibleParserError("")._exit_code) from None

    def _embedded(self, declared):
        self._populate(declared.resolve())
        tls = {"tls": declared.tls.mode != "disabled"}
        self._set("all", {"rings": [ring.as_variable() | tls for ring in declared.rings]})
        file = self._state().folder / "fragments.json"
        where = {"fragments_command_options": [f"--configuration={file}"]}
        self._set("all", {"fragments": declared.fragments.as_variable()} | where)

    def _kubernetes(self, declared):
        """The same hosts; what touches the database runs in the chart's toolbox pod, the rest here."""
        for variable in filter(names_another, list(os.environ)):
            del os.environ[variable]  # for modules, kubectl and helm alike, which inherit this process's
        os.environ["KUBERC"] = "off"  # nor a personal file that changes what kubectl's options mean
        which = {"kind": self._kind, "given": self._given}[self.get_option("cluster")]
        kubeconfig, context, role = which(declared)
        name = self.get_option("release") or declared.name
        namespace, domain = self.get_option("namespace") or declared.name, self.get_option("cluster_domain")
        place = release.Release(name, namespace, fullname=name, cluster_domain=domain)
        values = chart.chart_values(declared, domain)
        cluster = release.describe(chart.document(values, place)).reached_by(kubeconfig, context)
        self._populate(cluster)
        kubeconfig = kubeconfig or str(self._state().folder / "kubeconfig")
        self._set(
            "all",
            {
                "kubernetes_cluster_role": role,
                "pods_to_ask": self._state().describes_a_cluster() and Path(kubeconfig).exists(),
                "kubernetes_kubeconfig": kubeconfig,
                "kubernetes_context": context,
                "kubernetes_namespace": place.namespace,
                "kubernetes_release": place.name,
                "chart_topology_values": chart.sized_for_a_laptop(values, declared),
                "kubernetes_shop_release": shop_chart.release_of(place.fullname),
                "rings": [
                    ring_chart.as_variable(ring, place.fullname, domain, tls=declared.tls.mode != "disabled")
                    for ring in declared.rings
                ],
                "kubernetes_fragments_release": fragments_chart.release_of(place.fullname),
                "fragments": declared.fragments.as_variable(),
                "fragments_command_options": [],  # it runs beside the nodes, where the configuration is
            },
        )
        if declared.services is not None:
            shop = shop_chart.shop_values(declared, place.fullname, domain)
            self._set("all", {"shop_chart_topology_values": shop_chart.sized_for_a_laptop(shop)})
        beside = fragments_chart.fragments_values(declared, place.fullname, domain)
        self._set("all", {"fragments_chart_topology_values": fragments_chart.sized_for_a_laptop(beside)})
        in_toolbox = {
            "ansible_connection": "kubernetes.core.kubectl",
            "ansible_kubectl_kubeconfig": kubeconfig,
            "ansible_kubectl_context": context,
            "ansible_kubectl_namespace": place.namespace,
            "ansible_kubectl_pod": f"deploy/{cluster.kubernetes.toolbox}",
            "ansible_kubectl_container": CONTAINER,
            "ansible_remote_tmp": "/tmp/.ansible",  # noqa: S108  a volume of that pod alone
            "ansible_python_interpreter": "python3",
            "shardmart_modules": TOOLBOX_CHECKOUT,
        } | self._of_state(TOOLBOX_STATE, cluster, certificate="server.crt")
        for host in self.inventory.hosts:
            if host != "controller":
                self._set(host, in_toolbox)

    def _kind(self, declared):
        """Kubeconfig (the state folder's own), context and role of a throw-away cluster."""
        return None, f"kind-{declared.name}", "kind_cluster"

    def _given(self, _declared):
        """Kubeconfig, context and role of a cluster that is there; DescriptionError unless both are said and there."""
        extra, option = self._extra.get("kubernetes_kubeconfig"), self.get_option("kubeconfig")
        context = self._extra.get("kubernetes_context") or self.get_option("context")
        if not (extra or option) or not context:
            raise DescriptionError(
                "this inventory uses a Kubernetes that is there: say which with -e kubernetes_kubeconfig=FILE "
                f"-e kubernetes_context=NAME, or in {self._folder / 'shardmart.yml'}"
            )
        file = Path(extra).expanduser().resolve() if extra else (self._folder / Path(option).expanduser()).resolve()
        try:
            contexts = [one["name"] for one in yaml.safe_load(file.read_text())["contexts"]]
        except OSError as error:
            raise DescriptionError(f"kubeconfig {file}: {error.strerror}") from None
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise DescriptionError(f"{file} is not a kubeconfig: it has no contexts") from None
        if context not in contexts:
            raise DescriptionError(
                f"{file} has no context {context!r}, it has {', '.join(map(str, contexts)) or 'none'}"
            )
        return str(file), context, "given_cluster"

    def _state(self):
        return State.find(None if os.environ.get("SHARDMART_STATE") else CHECKOUT / ".shardmart")

    def _of_state(self, folder, cluster, certificate):
        """Variables that name files of the state folder, as tasks see it; `certificate` is the servers' one there."""
        variables = {
            "shardmart_state": str(folder),
            "shardmart_secrets": str(folder / "secrets"),
            "server_certificate": str(folder / "tls" / certificate),
        }
        return variables | ({"cluster_tls": {"ca_file": str(folder / "tls" / "ca.pem")}} if cluster.tls.spoken else {})

    def _populate(self, cluster, certificate="server.pem"):
        inventory = self.inventory
        with_shop = cluster.shop is not None
        model = data_model.load(shop=with_shop)
        self._set(
            "all",
            {
                "cluster": cluster.as_document(),
                "data_model": {
                    "database": model.database,
                    "collections": [collection.as_task_argument() for collection in model.collections],
                },
                "access": access.load(model.database, shop=with_shop).as_variable(model.database),
                "shardmart_checkout": str(CHECKOUT),
                "ansible_python_interpreter": sys.executable,
            }
            | self._of_state(self._state().folder, cluster, certificate),
        )
        for group in ("members", "shards", "routers", "set_leaders"):
            inventory.add_group(group)
        for host in ("controller", "toolbox"):
            inventory.add_host(host)
            inventory.set_variable(host, "ansible_connection", "local")
        self._add_set(cluster.config_servers, "config_servers", config_server=True)
        for shard in cluster.shards:
            self._add_set(shard, "shards", config_server=False)
        for router in cluster.routers:
            self._add_host(router, "routers")

    def _set(self, entity, variables):
        for name, value in variables.items():
            self.inventory.set_variable(entity, name, value)

    def _add_set(self, replica_set, parent, *, config_server):
        group = self.inventory.add_group(replica_set.name)
        if parent != group:
            self.inventory.add_group(parent)
            self.inventory.add_child(parent, group)
        self.inventory.add_child("members", group)
        self._set(group, {"replica_set": replica_set.as_document() | {"config_server": config_server}})
        for member in replica_set.members:
            self._add_host(member, group)
        self.inventory.add_child("set_leaders", replica_set.members[0].name)

    def _add_host(self, node, group):
        self.inventory.add_host(node.name, group=group)
        self._set(node.name, {"ansible_connection": "local", "mongodb_address": node.address})
