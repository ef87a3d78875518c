"""Where a key lies: a pure function of the key and of the nodes, the same on every machine."""
