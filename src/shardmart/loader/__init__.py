"""The loader: realistic users, products and orders, from thirty orders to tens of millions, and never twice.

Every document is a pure function of the seed and its position (generation.dataset), its `_id` says both
(generation.identity), so what is already there is known by reading, and no marker collection is kept or trusted.
"""
