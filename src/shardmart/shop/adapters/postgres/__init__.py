"""PostgreSQL, or what speaks its protocol: the catalogue's products."""
