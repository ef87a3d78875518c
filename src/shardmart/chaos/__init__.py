"""Faults that are proved, experiments for Chaos Toolkit, and reports of what they did to acknowledged writes.

Each room knows only those after it: `toolkit` (what experiments name), `report`, `agents` (programs that run
elsewhere), `observation` (what is seen meanwhile), `lifecycle` (record, guard, heal), `faults`, `targets`, `packets`.
"""
