"""What goes over a connection: messages, BSON, SCRAM, TLS, cluster time, and the errors clients receive."""
