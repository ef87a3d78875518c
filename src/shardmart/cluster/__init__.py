"""What Shardmart knows about a sharded cluster: replica sets, shards, zones, collections and users.

Ansible modules ship this package to wherever they run (a laptop, the toolbox pod, a Job) and the `shardmart`
command imports it on the spot.  It needs the standard library and PyMongo only; `cluster.processes`, which runs
on the embedded platform, also needs psutil.
"""
