"""The servers that faults hit and probes ask: which ones a word means, and how to reach them."""
