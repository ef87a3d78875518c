"""The shop in fragments: a relational store cut vertically and horizontally over region nodes, and the same on MongoDB.

It knows the stores by their connection strings alone and starts no server (docs/fragments.md).
"""
