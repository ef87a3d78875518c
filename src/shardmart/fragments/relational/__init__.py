"""The relational store: the schema, price fragments over three nodes, vertical fragments, writes over two nodes."""
