"""A workload that remembers every acknowledged operation, and a checker that says what became of each.

`shardmart ledger run` writes through the router and keeps a journal on this machine; `shardmart ledger check` compares
the journal with what the cluster holds.  `chaos` runs both around every fault.
"""
