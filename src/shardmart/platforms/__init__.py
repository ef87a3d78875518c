"""Where a cluster runs: the only places that know how the platforms differ."""
