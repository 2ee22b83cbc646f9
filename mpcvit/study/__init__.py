"""Studies: train these architectures with these seeds, alike, and compare them.

Each script in `benchmarks/` is one study. In the order in which it happens: jobs in
processes, searches, trainings, the report, and the command line of a script.
"""
