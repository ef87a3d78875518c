"""Three PostgreSQL servers under Patroni, which keeps its word in etcd, as processes of this machine."""

from .cluster import Store, converge, remove, start, stop

__all__ = ["Store", "converge", "remove", "start", "stop"]
