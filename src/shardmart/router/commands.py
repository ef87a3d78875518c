"""Importing this module fills the table of commands."""
