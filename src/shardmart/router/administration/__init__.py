"""Administration: collections, sharding, users, sessions and what the router says about itself."""
