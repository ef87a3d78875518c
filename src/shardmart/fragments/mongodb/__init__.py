"""The same shop on a sharded MongoDB: CRUD, transactions over two shards, aggregations, and which shards they ask."""
