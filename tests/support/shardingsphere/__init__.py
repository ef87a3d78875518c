"""ShardingSphere-Proxy over three PostgreSQL servers, for tests alone."""
