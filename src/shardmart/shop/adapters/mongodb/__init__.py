"""The store, the lanes and the event log on a sharded MongoDB cluster."""
