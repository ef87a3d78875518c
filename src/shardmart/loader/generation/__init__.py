"""The documents of a seed: pure functions of the seed and a position; nothing here connects to anything."""
