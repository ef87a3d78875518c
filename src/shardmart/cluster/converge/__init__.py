"""What makes a running cluster as declared: one idempotent step a module."""
