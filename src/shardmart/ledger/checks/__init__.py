"""The checks: what each workload's journal and the cluster's final documents must agree on.

`ledger.checker` runs them.  They stage both sides in an SQLite file, so memory stays flat whatever the run's length.
"""
