"""What goes over a connection: messages, BSON, SCRAM, TLS, and the errors clients receive."""
