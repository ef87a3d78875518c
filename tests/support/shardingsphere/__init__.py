"""ShardingSphere-Proxy over three PostgreSQL servers, for tests alone: a sharded engine behind PostgreSQL's protocol."""
