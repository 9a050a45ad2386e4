"""`make bench`: every figure beside its floor in one run (machines are noisy; ratios are what counts)."""
