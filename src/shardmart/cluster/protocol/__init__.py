"""How to speak with servers: connections, identities, the wire."""
