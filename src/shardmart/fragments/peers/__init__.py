"""The peers: Customer_Region on every node, written on every node, equal in the end."""
