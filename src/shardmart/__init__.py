"""Shardmart: a sharded MongoDB e-commerce data platform as code.

The topology, the data model, the state folder and the `shardmart` command live here; what is known about a
running cluster is in the `cluster` package, which the Ansible modules share.
"""
