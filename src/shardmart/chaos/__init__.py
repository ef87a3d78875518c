"""Faults that are proved, experiments for Chaos Toolkit, and reports of what they did to acknowledged writes.

Experiments are the JSON files beside this one (kind) and in `embedded/`; `actions`, `probes` and `controls` are what
they name; `guard` is the process that holds a fault and ends it by itself.
"""
