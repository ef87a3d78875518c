"""The packet injector: delay, jitter, loss and partition of real TCP packets, in the Python standard library alone.

`lifecycle.guard` starts it on this machine for embedded clusters; `chaos.pod_network` ships the same modules into an
ephemeral container of a pod.  It imports nothing from the rest of Shardmart, so that a container with Python and
iptables is all it needs.
"""
