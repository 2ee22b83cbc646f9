"""Search over layers: the mixing, norm, activation and MLP of each, or none."""
