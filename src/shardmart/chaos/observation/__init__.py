"""What is seen while an experiment runs: the ledger workload, heartbeats of writes, elections."""
