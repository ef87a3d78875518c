"""`python -m loader`: the same as `shardmart load`."""

import sys

from .cli import main

sys.exit(main(sys.argv[1:]))
