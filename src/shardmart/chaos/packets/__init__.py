"""The packet injector: delay, jitter, loss and partition of real TCP packets, in the Python standard library alone.

It runs on this machine for the processes of an embedded cluster, and on a node for pods.  It imports nothing from the
rest of Shardmart, so that a container with Python and iptables is all it needs.
"""
