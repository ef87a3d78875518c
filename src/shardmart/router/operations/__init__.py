"""The data commands: each client command checked, targeted, sent to shards, and its answers merged."""
