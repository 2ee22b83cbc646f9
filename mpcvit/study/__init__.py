"""Studies: train architectures alike, with the same seeds; compare and report them."""
