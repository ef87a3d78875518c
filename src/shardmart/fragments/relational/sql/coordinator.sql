-- The log of the two-phase commits that this node coordinates (relational/coordinator.py).

-- thing: table coordinator_log
CREATE TABLE Coordinator_Log (
    gid text PRIMARY KEY,
    participants text[] NOT NULL,
    decision text NOT NULL DEFAULT 'begun' CHECK (decision IN ('begun', 'commit', 'abort')),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
