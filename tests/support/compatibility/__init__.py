"""What of MongoDB this project uses, taken from its code, and what was found about each in the server's versions."""
