"""A mail server of this machine that keeps what it takes, and what is in its folder.  It sends nothing to anybody."""
