"""What a running cluster is: read, and changed by nothing here."""
