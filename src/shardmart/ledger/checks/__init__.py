"""What checks are made of: both sides staged in a file, exactly once, histories by key, linearizability, the verdict.

Nothing here knows a workload.  Memory stays flat whatever the run's length.
"""
