"""One node, what it holds and how it is known to be itself; and all nodes of a ring as one client sees them."""
