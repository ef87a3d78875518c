"""What is wanted: the topology, the data model, and what the Helm chart makes of them."""
