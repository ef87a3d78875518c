"""The shop: order, inventory, payment, notification and catalogue services over a sharded MongoDB cluster.

It gets every address and secret by configuration (`settings`) and knows nothing of how the cluster is made.
"""
