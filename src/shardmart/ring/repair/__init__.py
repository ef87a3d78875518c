"""What makes copies equal again: comparison, nodes that return, hints, the end of tombstones."""
