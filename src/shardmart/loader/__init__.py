"""The loader: realistic users, products and orders, from thirty orders to tens of millions, and never twice.

`shardmart load` (loader.cli), the role `seed` and the Kubernetes Job built from loader/Dockerfile run it.  Every
document is a pure function of the seed and its position (loader.dataset), its `_id` says both (loader.identity), so
what is already there is known by reading, and no marker collection is kept or trusted.
"""
