"""What an experiment did, as a page, a picture and a table; read from its folder, never from the cluster."""
