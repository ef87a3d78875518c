#!/usr/bin/python
"""Ansible module: the members and routers of a cluster as processes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: member_processes
short_description: Run the members and routers of a cluster as processes of this machine
description:
  - Writes each member's configuration, starts those that do not run, all at once, and waits until they listen. They
    survive the play. A running member whose configuration changed is restarted, one at a time, secondaries first.
  - A process is recognised by its command line, so a stale pid file never leads to another program, and who reads a
    server's log or edits its configuration is not taken for the server.
  - A port that another program holds is an error that names the program.
  - A router that an earlier topology had is stopped; C(stopped) also stops members that only an earlier one had.
  - C(stopped) ends the routers, then the shards' members, then the config servers, each kind at once.
attributes:
  check_mode: {support: full, description: Says what would be started, restarted or stopped.}
  diff_mode: {support: full, description: Shows changed configurations.}
options:
  cluster:
    description: The cluster as the inventory describes it.
    type: dict
    required: true
  state_folder:
    description: Folder with the cluster's secrets, data, logs and pid files.
    type: path
    required: true
  mongod:
    description: Path of mongod; needed to start.
    type: path
  mongos:
    description: Path of mongos; the development router runs where it is not given.
    type: path
  state:
    description: Whether the processes run.
    type: str
    choices: [started, stopped]
    default: started
  rotate_logs_above_mb:
    description: Logs above this size are rotated, in mebibytes; three old ones are kept.
    type: int
    default: 64
  wait_seconds:
    description: How long to wait in all, in seconds.
    type: float
    default: 60
requirements: [psutil, pyyaml]
author: Shardmart
"""

EXAMPLES = r"""
- name: Start the members
  member_processes:
    cluster: "{{ cluster }}"
    state_folder: .shardmart
    mongod: /usr/bin/mongod
"""

RETURN = r"""
changes: {description: What was done., type: list, returned: always, sample: [start shard1-1]}
"""

from pathlib import Path

from ansible.module_utils.shardmart.cluster.converge import restart
from ansible.module_utils.shardmart.cluster.host import processes
from ansible.module_utils.shardmart.cluster.module import CLUSTER_ARGUMENT, cluster_of, run
from ansible.module_utils.shardmart.cluster.protocol.connection import Credentials, Deadline
from ansible.module_utils.shardmart.platforms import embedded

ARGUMENTS = CLUSTER_ARGUMENT | {
    "state_folder": {"type": "path", "required": True},
    "mongod": {"type": "path"},
    "mongos": {"type": "path"},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "rotate_logs_above_mb": {"type": "int", "default": 64},
    "wait_seconds": {"type": "float", "default": 60.0},
}


def body(module):
    """Converge the processes."""
    arguments = module.params
    state = Path(arguments["state_folder"])
    cluster = cluster_of(module)
    declared = embedded.processes(
        cluster, state, {"mongod": arguments["mongod"] or "mongod", "mongos": arguments["mongos"]}
    )
    if arguments["state"] == "stopped":
        return stopped([*embedded.left_over(declared, state), *declared], arguments["wait_seconds"], module.check_mode)
    deadline = Deadline(arguments["wait_seconds"])
    live = processes.live(declared)
    idle = [process for process in declared if process.name not in live]
    leaving = [process for process in embedded.left_over(declared, state) if process.data_folder is None]
    outdated = [
        process
        for process in declared
        if (it := live.get(process.name)) and (process.configuration_change() or process.arguments_change(it))
    ]
    embedded.refuse_switched_tls(outdated)
    changes = [f"start {process.name}" for process in idle]
    changes += [f"restart {process.name}: its configuration changed" for process in outdated]
    changes += [f"stop {router.name}: the topology has it no more" for router in leaving]
    diff = [configuration_diff(process) for process in declared if process.configuration_change()]
    if not module.check_mode:
        running = [process for process in declared if process.name in live]
        rotated = processes.rotate_logs(running, larger_than=arguments["rotate_logs_above_mb"] << 20)
        changes += [f"rotate the log of {name}" for name in rotated]
        # A router listens only once the config servers have a primary, which the bootstrap gives them.
        routers = {router.name for router in cluster.routers}
        started = processes.start(idle)
        processes.wait_until_listening([s for s in started if s.process.name not in routers], deadline)
        processes.refuse_ended(started)
        sets = {member.name: s.addresses for s in cluster.replica_sets for member in s.members}
        keyfile = Credentials(keyfile=state / "secrets/keyfile", tls=embedded.tls(cluster, state))
        processes.stop(leaving, wait_seconds=deadline.remaining)
        restart.one_at_a_time(outdated, sets, keyfile, deadline)
        for process in declared:  # those that ran already may have been started before records were kept
            processes.remember(process)
            processes.note_pid(process)
    return {"changed": bool(changes), "changes": changes, "diff": diff}


def configuration_diff(process):
    """What --diff shows of one member's configuration file."""
    before, after = process.configuration_change()
    file = str(process.configuration_file)
    return {"before_header": file, "after_header": file, "before": before, "after": after}


def stopped(declared, wait_seconds, check_mode):
    """Have none run."""
    running = list(processes.live(declared))
    if not check_mode:
        embedded.stop_in_order(declared, wait_seconds=wait_seconds)
    return {"changed": bool(running), "changes": [f"stop {name}" for name in running]}


def main():
    """Be the module."""
    run(ARGUMENTS, body)


if __name__ == "__main__":
    main()
