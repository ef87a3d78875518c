"""The development router: mongos's job, for machines where no mongos can be had.

It routes for MongoDB 6.0 members and leaves the hard work to them.  It is for first use, CI and air-gapped
laboratories; where a real mongos exists, that is used instead.  See README.md for what it refuses.
"""

MEMBER_VERSION = "6.0.5"
NOTICE = (
    "This is Shardmart's development router, not mongos: for development, CI and laboratories;"
    " use mongos in production."
)
