"""The `shardmart ring` command: demonstrations on servers that it starts and stops, and work on a ring that runs."""
