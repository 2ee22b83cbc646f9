"""A grid of workloads, measured by the engine into a profile."""
