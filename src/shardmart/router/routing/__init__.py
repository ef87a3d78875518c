"""Who owns what, and who answers for it: members, replica sets, shard keys and the catalogue of chunks."""
