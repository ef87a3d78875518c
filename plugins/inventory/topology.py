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
    and C(image_pins).
options:
  plugin: {description: Must be C(topology)., required: true, choices: [topology]}
  platform: {description: What the members are., choices: [embedded, kind], default: embedded}
  topology:
    description: The topology file, relative to this inventory. C(-e topology=FILE) takes its place.
    default: ../topology.yml
  release: {description: "kind: the Helm release; default is the topology's name."}
  namespace: {description: "kind: the namespace; default is the topology's name."}
  cluster_domain: {description: "kind: DNS domain of the Kubernetes cluster.", default: cluster.local}
  cluster_file:
    description: A C(cluster.json) that is used instead of a topology file, relative to this inventory.
  in_cluster:
    description: "kind: Ansible itself runs in a pod, so database tasks run here and not through kubectl."
    type: bool
    default: false
author: Shardmart
"""

import json
import os
import sys
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import load_extra_vars

from shardmart.cluster.description import speaks_tls
from shardmart.declare import access, data_model, topology, versions
from shardmart.declare import chart as kind
from shardmart.platforms.state import State

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLBOX_STATE = "/state"
"""Where the chart's toolbox pod has its cluster.json and secrets."""


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
        if self.get_option("cluster_file"):
            self._populate(json.loads((Path(path).parent / self.get_option("cluster_file")).read_text()))
            return
        extra = load_extra_vars(loader)
        file = Path(extra["topology"]) if "topology" in extra else Path(path).parent / self.get_option("topology")
        try:
            declared = topology.load(file.resolve())
            if self.get_option("platform") == "kind":
                self._populate_kind(declared)
            else:
                self._populate(declared.resolve("embedded"))
            for name, value in versions.load().as_variables(declared.mongodb.version).items():
                self.inventory.set_variable("all", name, value)
        except topology.TopologyError as error:
            # An exception would be shown three times over and hide the line that matters (ansible-core 2.19).
            self.display.error(str(error), wrap_text=False)
            raise SystemExit(AnsibleParserError("")._exit_code) from None

    def _populate_kind(self, declared):
        """The same hosts; what touches the database runs in the chart's toolbox pod, the rest here."""
        release = kind.Release(
            name=self.get_option("release") or declared.name,
            namespace=self.get_option("namespace") or declared.name,
            cluster_domain=self.get_option("cluster_domain"),
        )
        self._populate(declared.resolve("kind", release.addresses(declared), release.server_names(declared)))
        kubeconfig = str(self._state().folder / "kubeconfig")
        for name, value in {
            "kubernetes_kubeconfig": kubeconfig,
            "kubernetes_namespace": release.namespace,
            "kubernetes_release": release.name,
            "chart_topology_values": kind.chart_values(declared),
        }.items():
            self.inventory.set_variable("all", name, value)
        in_toolbox = {
            "ansible_connection": "kubernetes.core.kubectl",
            "ansible_kubectl_kubeconfig": kubeconfig,
            "ansible_kubectl_namespace": release.namespace,
            "ansible_kubectl_pod": f"deploy/{release.name}-toolbox",
            "ansible_kubectl_container": "toolbox",
            "ansible_remote_tmp": "/tmp/.ansible",  # noqa: S108  a volume of that pod alone
            "ansible_python_interpreter": "python3",
            "shardmart_state": TOOLBOX_STATE,
            "shardmart_secrets": f"{TOOLBOX_STATE}/secrets",
        }
        if declared.tls.mode != "disabled":
            in_toolbox["cluster_tls"] = {"ca_file": f"{TOOLBOX_STATE}/tls/ca.pem"}
        for host in self.inventory.hosts:
            if host != "controller":
                for name, value in in_toolbox.items():
                    self.inventory.set_variable(host, name, value)

    def _state(self):
        return State.find(None if os.environ.get("SHARDMART_STATE") else CHECKOUT / ".shardmart")

    def _populate(self, cluster):
        inventory = self.inventory
        state = self._state()
        model = data_model.load()
        variables = {
            "cluster": cluster,
            "data_model": {
                "database": model.database,
                "collections": [collection.as_task_argument() for collection in model.collections],
            },
            "access": access.load(model.database).as_variable(model.database),
            "shardmart_checkout": str(CHECKOUT),
            "shardmart_state": str(state.folder),
            "shardmart_secrets": str(state.folder / "secrets"),
            "ansible_python_interpreter": sys.executable,
        }
        if speaks_tls(cluster):
            variables["cluster_tls"] = {"ca_file": str(state.folder / "tls" / "ca.pem")}
        for name, value in variables.items():
            inventory.set_variable("all", name, value)
        for group in ("members", "shards", "routers", "set_leaders"):
            inventory.add_group(group)
        for host in ("controller", "toolbox"):
            inventory.add_host(host)
            inventory.set_variable(host, "ansible_connection", "local")
        self._add_set(cluster["config_servers"], "config_servers", config_server=True)
        for shard in cluster["shards"]:
            self._add_set(shard, "shards", config_server=False)
        for router in cluster["routers"]:
            self._add_host(router, "routers")

    def _add_set(self, replica_set, parent, *, config_server):
        group = self.inventory.add_group(replica_set["name"])
        if parent != group:
            self.inventory.add_group(parent)
            self.inventory.add_child(parent, group)
        self.inventory.add_child("members", group)
        self.inventory.set_variable(group, "replica_set", replica_set | {"config_server": config_server})
        for member in replica_set["members"]:
            self._add_host(member, group)
        self.inventory.add_child("set_leaders", replica_set["members"][0]["name"])

    def _add_host(self, server, group):
        self.inventory.add_host(server["name"], group=group)
        self.inventory.set_variable(server["name"], "ansible_connection", "local")
        self.inventory.set_variable(server["name"], "mongodb_address", f"{server['host']}:{server['port']}")
